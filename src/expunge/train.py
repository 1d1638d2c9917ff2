"""The one training loop. A method gives it a loss and says which batches it wants; a mask, a schedule and a stop rule are settings."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from .checkpoint import load_state, save_state
from .data import Batch, Samples
from .errors import ExpungeError
from .mask import Mask, combine, complete, inverted_mask, masked, random_mask, saliency_scores, top_mask
from .modes import evaluating
from .record import plain
from .run import Row, Run, finite, snapshot

if TYPE_CHECKING:
    from .method import GradientMethod

Pair: TypeAlias = tuple[Batch | None, Batch | None]

PROBE = 2048  # samples of each set that the curves and the guard look at
NAN_EVERY = 25  # steps between looks at the loss, each of which waits for the device


# ---- which batches a step sees


def _stream(run: Run, name: str, samples: Samples, size: int) -> Iterator[Batch]:
    draw = run.generator(name)
    return samples.batches(size, device=run.device, shuffle=draw, augment=draw)


def _endless(run: Run, name: str, samples: Samples, size: int) -> Iterator[Batch]:
    """Passes without end; short last batches are left out where there are whole ones."""
    whole = min(size, len(samples))
    while True:
        yield from (b for b in _stream(run, name, samples, size) if len(b) >= whole)


def pairs(run: Run, schedule: str, size: int) -> Iterator[Pair]:
    """One epoch of (forget batch, retain batch), either of which may be None. See `GradientMethod.schedule`."""
    forget, retain = run.split.forget, run.split.retain
    if schedule in ("forget", "sequential"):
        yield from ((f, None) for f in _stream(run, "forget", forget, size))
    if schedule in ("retain", "sequential"):
        yield from ((None, r) for r in _stream(run, "retain", retain, size))
    if schedule == "forget+retain":
        beside = _endless(run, "retain", retain, size)
        for f in _stream(run, "forget", forget, size):
            r = next(beside)
            yield f, r.part(torch.arange(len(f))) if len(r) > len(f) else r
    if schedule == "retain+forget":
        beside = _endless(run, "forget", forget, size)
        for r in _stream(run, "retain", retain, size):
            f = next(beside)
            yield f.part(torch.arange(len(r))) if len(f) > len(r) else f, r
    if schedule == "mixed":
        yield from _mixed(run, size)


def _mixed(run: Run, size: int) -> Iterator[Pair]:
    forget, retain = run.split.forget, run.split.retain
    is_forget = torch.zeros(len(forget.data), dtype=torch.bool)
    is_forget[forget.index] = True
    union = Samples(forget.data, torch.cat([forget.index, retain.index]))
    for batch in _stream(run, "mixed", union, size):
        f, r = batch.part(is_forget[batch.index]), batch.part(~is_forget[batch.index])
        yield f if len(f) else None, r if len(r) else None


def steps_per_epoch(run: Run, schedule: str, size: int) -> int:
    """How many pairs one epoch of `schedule` has."""
    f, r = len(run.split.forget), len(run.split.retain)
    whole = {
        "forget": [f],
        "retain": [r],
        "forget+retain": [f],
        "retain+forget": [r],
        "sequential": [f, r],
        "mixed": [f + r],
    }
    return sum(-(-n // size) for n in whole[schedule])


def _pieces(pair: Pair, count: int) -> Iterator[tuple[Pair, float]]:
    """A pair cut for gradient accumulation, each piece with its share of the step's loss."""
    if count == 1:
        yield pair, 1.0
        return
    size = max(len(b) for b in pair if b is not None)
    count = min(count, min(len(b) for b in pair if b is not None))
    for k in range(count):
        cut = [
            b if b is None else b.part(torch.arange(len(b) * k // count, len(b) * (k + 1) // count))
            for b in pair
        ]
        yield (cut[0], cut[1]), max(len(b) for b in cut if b is not None) / size


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
            scores = saliency_scores(
                run.model, run.split.forget, run.task, seed=run.seed, **method.saliency_options()
            )
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
    optimizer = make_optimizer(method, run.model)
    total = max(1, method.steps(run))
    scheduler = LambdaLR(optimizer, rate(method.lr_schedule, total))
    scaler = torch.amp.GradScaler(
        run.device.type, enabled=run.compute.amp == "fp16" and run.device.type == "cuda"
    )
    watch = Watch(run, method)
    resumed = _resume(run, method, optimizer, scheduler, watch)
    if not resumed:
        run.mask = choose_mask(run, method)
        watch.start()
    holding: AbstractContextManager[Any] = (
        masked(optimizer, run.model, run.mask) if run.mask is not None else nullcontext()
    )
    with holding as held:
        while run.epoch < run.epochs and run.status == "finished":
            for pair in method.pairs(run):
                method.train_mode(run)
                loss = _step(run, method, pair, optimizer, scaler, held)
                scheduler.step()
                run.step += 1
                if watch.stops(loss):
                    break
            else:
                run.epoch += 1
                if not (method.probe_every and run.step % method.probe_every == 0):
                    watch.probe()
                _keep(run, method, optimizer, scheduler, watch)
    watch.finish()


def _step(
    run: Run,
    method: GradientMethod,
    pair: Pair,
    optimizer: Optimizer,
    scaler: torch.amp.GradScaler,
    held: Any,
) -> Tensor:
    optimizer.zero_grad(set_to_none=True)
    total = torch.zeros((), device=run.device)
    for (forget, retain), share in _pieces(pair, run.compute.accumulate):
        with autocast(run):
            loss = method.loss(run, forget, retain)
        scaler.scale(loss * share).backward()
        total += loss.detach() * share
    if method.clip is not None:
        scaler.unscale_(optimizer)
        if held is not None:
            held.mask_gradients()  # so that the norm is that of the weights that move
        torch.nn.utils.clip_grad_norm_([p for p in run.model.parameters() if p.grad is not None], method.clip)
    scaler.step(optimizer)
    scaler.update()
    method.after_step(run, optimizer)
    return total


def autocast(run: Run) -> AbstractContextManager[Any]:
    """Mixed precision as the run's `Compute` says."""
    if run.compute.amp == "off":
        return nullcontext()
    return torch.autocast(run.device.type, torch.bfloat16 if run.compute.amp == "bf16" else torch.float16)


class Watch:
    """Looks at a run as it goes: curves, the method's stop rule, NaN and collapse; keeps the last good state."""

    def __init__(self, run: Run, method: GradientMethod):
        self.run, self.method = run, method
        draw = run.generator("probe")
        few = lambda s: s.take(torch.randperm(len(s), generator=draw)[:PROBE].sort().values)  # noqa: E731
        guard = run.split.retain if "retain" in method.data else run.split.validation
        if guard is run.split.validation and run.split.forget_classes and len(guard):
            guard = guard.take(~torch.isin(guard.labels, torch.tensor(run.split.forget_classes)))
        self.sets = {"forget": few(run.split.forget), "retain": few(guard)}
        self.total = torch.zeros((), device=run.device)
        self.count = 0
        self.good: dict[str, Tensor] | None = None
        self.good_step = 0
        self.first: Row = {}

    def start(self) -> None:
        """The first row: the model before any step."""
        self.first = self._row(None)
        self.run.log(self.first)
        self.good = snapshot(self.run.model)

    def stops(self, loss: Tensor) -> bool:
        """Take the loss of a step; True once the run must end inside an epoch."""
        self.total += loss
        self.count += 1
        every = self.method.probe_every
        if every and self.run.step % every == 0:
            self.probe()
        elif self.run.step % NAN_EVERY == 0 and not bool(self.total.isfinite()):
            self._back("the loss became NaN or infinite")
        return self.run.status != "finished"

    def probe(self) -> None:
        """A row of the curves, and what follows from it."""
        sound = not self.count or bool(self.total.isfinite())
        if not sound or not finite(self.run.model):
            return self._back("the loss or a weight became NaN or infinite")
        row = self._row(float(self.total) / max(1, self.count))
        if any(isinstance(v, float) and math.isnan(v) for v in row.values()):
            return self._back("the model's outputs became NaN")
        self.total.zero_()
        self.count = 0
        self.run.log(row)
        drop = (self.first.get("retain") or 0.0) - (row.get("retain") or 0.0)
        if getattr(self.run.task, "percent", False) and drop > self.method.max_drop:
            return self._back(
                f"accuracy on retained samples fell by {drop:.1f} points, more than max_drop = {self.method.max_drop:g}"
            )
        self.good, self.good_step = snapshot(self.run.model), self.run.step
        if reason := self.method.stop(self.run, row):
            self.run.status = f"stopped: {reason}"

    def finish(self) -> None:
        if self.run.status == "finished" and not finite(self.run.model):
            self._back("a weight became NaN or infinite")

    def _back(self, what: str) -> None:
        """End the run at the last good state: a divergence if that is where it started, else a stop."""
        if self.good is not None:
            self.run.model.load_state_dict(self.good)
        self.run.status = (
            f"{'stopped' if self.good_step else 'diverged'} at step {self.run.step}: {what}; the last good state "
            f"(step {self.good_step}) was kept. Lower lr (now {self.method.lr:g}), run fewer epochs, or set clip."
        )

    def _row(self, loss: float | None) -> Row:
        row: Row = {"step": self.run.step, "epoch": self.run.epoch, "loss": loss}
        scale = 100.0 if getattr(self.run.task, "percent", False) else 1.0
        with evaluating(self.run.model), torch.inference_mode(), autocast(self.run):
            for name, samples in self.sets.items():
                seen = [
                    self.run.task.probe(self.run.model, b)
                    for b in samples.batches(self.run.compute.eval_batch, device=self.run.device)
                ]
                row[name] = scale * torch.cat(seen).double().mean().item() if seen else None
        return row


# ---- resume


def _identity(run: Run, method: GradientMethod) -> str:
    return repr((type(method).__name__, plain(asdict(method)), run.split.hash, run.seed, asdict(run.compute)))


def _keep(run: Run, method: GradientMethod, optimizer: Optimizer, scheduler: LambdaLR, watch: Watch) -> None:
    if run.state_file is None:
        return
    save_state(
        run.state_file,
        {
            "identity": _identity(run, method),
            "model": run.model.state_dict(),
            "optimizer": optimizer.state_dict(),
            "scheduler": scheduler.state_dict(),
            "random": run.random_state(),
            "mask": dict(run.mask or {}),
            "memo": run.memo,
            "epoch": run.epoch,
            "step": run.step,
            "status": run.status,
            "history": run.history,
            "first": watch.first,
            "good": watch.good,
            "good_step": watch.good_step,
        },
    )


def _resume(
    run: Run, method: GradientMethod, optimizer: Optimizer, scheduler: LambdaLR, watch: Watch
) -> bool:
    if run.state_file is None or not run.state_file.exists():
        return False
    state = load_state(run.state_file)
    if state["identity"] != _identity(run, method):
        raise ExpungeError(
            f"{run.state_file} is the state of another run (method, settings, split or seed differ); "
            "remove it to start anew, or repeat the settings it was made with."
        )
    run.model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    scheduler.load_state_dict(state["scheduler"])
    run.set_random_state(state["random"])
    run.mask = Mask(state["mask"]) if state["mask"] else None
    run.memo, run.epoch, run.step, run.status, run.history = (
        state[k] for k in ("memo", "epoch", "step", "status", "history")
    )
    watch.first, watch.good, watch.good_step = state["first"], state["good"], state["good_step"]
    return True
