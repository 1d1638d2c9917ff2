"""The one training loop. A method gives it a loss and says which batches it wants; a mask, a schedule and a stop rule are settings."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, fields, is_dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from .checkpoint import load_state, save_state
from .errors import ExpungeError
from .hashing import state_hash
from .mask import Mask, combine, complete, inverted_mask, masked, random_mask, top_mask
from .modes import freeze_batch_norm
from .record import plain
from .run import Run, autocast, peak_memory
from .schedule import Pair, pieces
from .watch import Watch

if TYPE_CHECKING:
    from .method import GradientMethod

LONE = "more than 1 value per channel"  # torch, where a last batch of one sample meets batch norm


# ---- optimizer, schedule, mask


def make_optimizer(method: GradientMethod, model: nn.Module) -> Optimizer:
    """The method's optimizer over the trainable weights; fused kernels on a GPU."""
    weights = [p for p in model.parameters() if p.requires_grad]
    fused: dict[str, Any] = {"fused": True} if weights[0].is_cuda else {}
    if method.optimizer == "sgd":
        return torch.optim.SGD(
            weights, method.lr, momentum=method.momentum, weight_decay=method.weight_decay, **fused
        )
    kind = torch.optim.Adam if method.optimizer == "adam" else torch.optim.AdamW
    return kind(weights, method.lr, weight_decay=method.weight_decay, **fused)


def rate(schedule: str, total: int) -> Callable[[int], float]:
    """The factor on the learning rate at a step: constant, linear (to 0), cosine, one_cycle or multistep (x0.1 at 1/2 and 3/4)."""
    warm = max(1, round(0.25 * total))
    shapes: dict[str, Callable[[int], float]] = {
        "constant": lambda s: 1.0,
        "linear": lambda s: 1 - s / total,
        "cosine": lambda s: 0.5 * (1 + math.cos(math.pi * s / total)),
        "one_cycle": lambda s: (s + 1) / warm if s < warm else max(0.0, (total - s) / (total - warm + 1)),
        "multistep": lambda s: 0.1 ** ((s >= total // 2) + (s >= 3 * total // 4)),
    }
    return shapes[schedule]


def choose_mask(run: Run, method: GradientMethod) -> Mask | None:
    """The run's mask: the one handed in, or the one the method's `density` and `mask` ask for, without its frozen weights."""
    mask = run.mask
    if mask is None and method.density < 1:
        if method.mask == "random":
            mask = random_mask(run.model, method.density, run.seed)
        else:
            options = method.saliency_options()
            # as many samples at once as a step has, so that what trains in memory also gets its mask there
            size = method.batch_size if options.get("paper_exact") else min(256, method.batch_size)
            options = {"batch_size": max(1, size // run.compute.accumulate), "seed": run.seed, **options}
            scores = run.team.scores(run.model, run.split.forget, run.task, **options)
            mask = complete(
                (inverted_mask if method.mask == "inverted" else top_mask)(scores, method.density), run.model
            )
    if frozen := method.frozen(run):
        free = Mask(
            {
                n: torch.full_like(p, n not in frozen, dtype=torch.bool)
                for n, p in run.model.named_parameters()
            }
        )
        mask = free if mask is None else combine(mask, free)
    return mask


# ---- the loop


def descend(run: Run, method: GradientMethod) -> None:
    """Run `method` to its end, its stop rule, or the last good state before it diverged."""
    run.epochs = method.epochs
    team = run.team
    team.begin(run.model)
    optimizer = make_optimizer(method, run.model)
    total = max(1, method.steps(run))
    scheduler = LambdaLR(optimizer, rate(method.lr_schedule, total))
    scaler = torch.amp.GradScaler(
        run.device.type, enabled=run.compute.amp == "fp16" and run.device.type == "cuda"
    )
    watch = Watch(run, method)
    identity = _identity(run, method)  # with the mask handed in, not the one chosen
    kept = {"optimizer": optimizer, "scheduler": scheduler, "scaler": scaler}
    resumed = _resume(run, identity, kept, watch)
    if not resumed:
        run.mask = choose_mask(run, method)
        watch.start()
    holding: AbstractContextManager[Any] = (
        masked(optimizer, run.model, run.mask) if run.mask is not None else nullcontext()
    )
    with holding as held:
        while run.epoch < run.epochs and run.ended == "finished":
            team.epoch(run.seed, run.epoch)
            for pair in method.pairs(run):
                method.train_mode(run)
                try:
                    loss = _step(run, method, pair, optimizer, scaler, held)
                except ValueError as error:
                    if LONE not in str(error):
                        raise
                    freeze_batch_norm(run.model)  # for this step
                    loss = _step(run, method, pair, optimizer, scaler, held)
                scheduler.step()
                run.step += 1
                if watch.stops(loss):
                    break
            else:
                run.epoch += 1
                watch.epoch()
                if team.rank == 0:
                    _keep(run, identity, kept, watch)
    watch.finish()


def _step(
    run: Run,
    method: GradientMethod,
    pair: Pair,
    optimizer: Optimizer,
    scaler: torch.amp.GradScaler,
    held: Any,
) -> Tensor:
    team = run.team
    optimizer.zero_grad(set_to_none=True)
    total = torch.zeros((), device=run.device)
    every = pieces(pair, run.compute.accumulate * team.size)
    for (forget, retain), share in islice(every, team.rank, None, team.size):
        with autocast(run):
            loss = method.loss(run, forget, retain)
        scaler.scale(loss * share).backward()
        total += loss.detach() * share
    team.sum_gradients(run.model)
    if method.clip is not None:
        scaler.unscale_(optimizer)
        if held is not None:
            held.mask_gradients()  # so that the norm is that of the weights that move
        torch.nn.utils.clip_grad_norm_([p for p in run.model.parameters() if p.grad is not None], method.clip)
    scaler.step(optimizer)
    scaler.update()
    method.after_step(run, optimizer)
    return total


# ---- resume


def _identity(run: Run, method: GradientMethod) -> str:
    given = None if run.mask is None else state_hash({k: v.to(torch.uint8) for k, v in run.mask.items()})
    settings = plain(asdict(method))
    origin = None  # the weights that the run started from: hashed only where a state is kept
    if run.state_file is not None and run.source is not None:
        origin = state_hash(run.source.state_dict())
    task = (type(run.task).__name__, run.task.num_classes, _settings_of(run.task))
    return repr(
        (type(method).__name__, settings, run.split.hash, run.seed, asdict(run.compute), given, origin, task)
    )


def _settings_of(task: Any) -> dict[str, str]:
    """What a task is made with; a network among it by its weights."""
    named = {f.name: getattr(task, f.name) for f in fields(task)} if is_dataclass(task) else {}
    return {k: state_hash(v.state_dict()) if isinstance(v, nn.Module) else repr(v) for k, v in named.items()}


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        yield from (t for v in value.values() for t in _tensors(v))


def _on(value: Any, device: torch.device) -> Any:
    if isinstance(value, dict):
        return {k: _on(v, device) for k, v in value.items()}
    return value.to(device) if isinstance(value, Tensor) else value


def _keep(run: Run, identity: str, kept: dict[str, Any], watch: Watch) -> None:
    if run.state_file is None:
        return
    save_state(
        run.state_file,
        {
            "identity": identity,
            "model": run.model.state_dict(),
            **{name: part.state_dict() for name, part in kept.items()},
            "random": run.random_state(),
            "mask": dict(run.mask or {}),
            "memo": run.memo,
            "memo_on_device": [k for k, v in run.memo.items() if any(t.is_cuda for t in _tensors(v))],
            "epoch": run.epoch,
            "step": run.step,
            "status": run.status,
            "ended": run.ended,
            "taken_back": run.taken_back,
            "history": run.history,
            "seconds": run.elapsed,
            "peak_memory": peak_memory(run.device) or 0,
            "first": watch.first,
            "good": watch.good,
            "good_step": watch.good_step,
        },
    )


def _resume(run: Run, identity: str, kept: dict[str, Any], watch: Watch) -> bool:
    if run.state_file is None or not run.state_file.exists():
        return False
    state = load_state(run.state_file)
    if state["identity"] != identity:
        raise ExpungeError(
            f"{run.state_file} is the state of another run (model, method, settings, split, seed or mask differ); "
            "remove it to start anew, or repeat the settings it was made with."
        )
    run.model.load_state_dict(state["model"])
    for name, part in kept.items():
        part.load_state_dict(state[name])
    run.set_random_state(state["random"])
    run.mask = Mask(state["mask"]) if state["mask"] else None
    for name in ("memo", "epoch", "step", "status", "ended", "taken_back", "history"):
        setattr(run, name, state[name])
    run.seconds, run.peak_memory = state["seconds"], state["peak_memory"] or None
    for key in state["memo_on_device"]:  # states are read to the CPU, where a method may not look for its own
        run.memo[key] = _on(run.memo[key], run.device)
    watch.first, watch.good, watch.good_step = state["first"], state["good"], state["good_step"]
    return True
