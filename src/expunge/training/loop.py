"""The one training loop. A method gives it a loss and says which batches it wants; a mask, a schedule and a stop rule are settings."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from itertools import islice
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from ..errors import MaskError
from ..masks.mask import complete, inverted_mask, masked, random_mask, top_mask
from ..masks.mask_file import Mask, combine
from ..torch_utils.module_state import freeze_batch_norm
from .guard import Watch
from .resume import State
from .run import Run, autocast
from .schedule import Pair, pieces

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
            # as many samples at once as a step has, so that what trains in memory also gets its mask there; of the code's
            # own form the batches are part of the result
            size = max(1, min(256, method.batch_size) // run.compute.accumulate)
            if options.get("paper_exact"):
                size = method.batch_size
            options = {"batch_size": size, "seed": run.seed, **options}
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
    trains = {
        p.requires_grad for n, p in run.model.named_parameters() if mask is not None and bool(mask[n].any())
    }
    if trains == {False}:
        raise MaskError(
            "every weight that the mask frees is frozen (requires_grad is False), so nothing could move; make the mask from this "
            "model, or free those weights."
        )
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
    parts = {"optimizer": optimizer, "scheduler": scheduler, "scaler": scaler}
    state = State(run, method, parts, watch)  # before the mask is chosen: a run is known by the one handed in
    if state.resume():
        if run.ended == "finished" and run.step != run.history[-1]["step"]:
            watch.epoch()  # a state is that before the look at its epoch
    else:
        run.mask = choose_mask(run, method)
        watch.start()
    holding: AbstractContextManager[Any] = (
        masked(optimizer, run.model, run.mask) if run.mask is not None else nullcontext()
    )
    lone = False
    with holding as held:
        while run.epoch < run.epochs and run.ended == "finished":
            team.epoch(run.seed, run.epoch)
            for pair in method.pairs(run):
                method.train_mode(run)
                try:
                    loss = _step(run, method, pair, optimizer, scaler, held)
                except (ValueError, RuntimeError) as error:  # the latter from torch.compile
                    if LONE not in str(error):
                        raise
                    freeze_batch_norm(run.model)  # for this step
                    if not lone and method.batch_size < 2 * run.compute.accumulate * team.size:
                        lone = _warn_of_lone(method.batch_size, run.compute.accumulate * team.size)
                    loss = _step(run, method, pair, optimizer, scaler, held)
                scheduler.step()
                run.step += 1
                if watch.stops(loss):
                    break
            else:
                run.epoch += 1
                watch.gather()
                if team.rank == 0:
                    state.keep()  # before the look, in which a program may end the run for today
                watch.epoch()
    watch.finish()


def _warn_of_lone(size: int, count: int) -> bool:
    warnings.warn(
        f"a batch of {size} is cut into {count} pieces, some of one sample, from which batch norm can learn nothing: its running "
        "statistics are used and left in such steps. Take a larger batch_size or fewer pieces (accumulate, processes).",
        RuntimeWarning,
        stacklevel=3,
    )
    return True


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
    union = method.plan() == "mixed" and getattr(run.task, "joint", False)
    every = pieces(pair, run.compute.accumulate * team.size, union)
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
