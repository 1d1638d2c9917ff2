"""Yield the batches of each step: the passes over forget and retain set that methods are made of."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol, TypeAlias

import torch

from ..data.batch import Batch
from ..data.samples import Samples

Pair: TypeAlias = tuple[Batch | None, Batch | None]


class _Sets(Protocol):
    """The two sets of a split that steps use."""

    @property
    def forget(self) -> Samples: ...
    @property
    def retain(self) -> Samples: ...


class Source(Protocol):
    """What batches are drawn from: a `Run` has a split, a device, and a random stream for each name."""

    @property
    def split(self) -> _Sets: ...
    @property
    def device(self) -> torch.device: ...
    def generator(self, name: str) -> torch.Generator: ...


def _pass(run: Source, name: str, samples: Samples, size: int) -> Iterator[Batch]:
    """One shuffled, augmented pass, drawn from the run's random stream `name`."""
    generator = run.generator(name)
    return samples.batches(size, device=run.device, shuffle=generator, augment=generator)


def _endless(run: Source, name: str, samples: Samples, size: int) -> Iterator[Batch]:
    """Passes without end. A short last batch is left out where there are full ones."""
    full = min(size, len(samples))
    while True:
        yield from (b for b in _pass(run, name, samples, size) if len(b) >= full)


def pairs(run: Source, schedule: str, size: int) -> Iterator[Pair]:
    """Yield the pairs of one epoch: (forget batch, retain batch), either of which may be None.

    Args:
        run: The run.
        schedule: One of the schedules of `GradientMethod.schedule`.
        size: Batch size of each set.
    """
    forget, retain = run.split.forget, run.split.retain
    if schedule in ("forget", "sequential"):
        yield from ((f, None) for f in _pass(run, "forget", forget, size))
    if schedule in ("retain", "sequential"):
        yield from ((None, r) for r in _pass(run, "retain", retain, size))
    if schedule == "forget+retain":
        retained = _endless(run, "retain", retain, size)
        for f in _pass(run, "forget", forget, size):
            r = next(retained)
            yield f, r.take(slice(len(f))) if len(r) > len(f) else r
    if schedule == "retain+forget":
        forgotten = _endless(run, "forget", forget, size)
        for r in _pass(run, "retain", retain, size):
            f = next(forgotten)
            yield f.take(slice(len(r))) if len(f) > len(r) else f, r
    if schedule == "mixed":
        yield from _mixed(run, size)


def _mixed(run: Source, size: int) -> Iterator[Pair]:
    """One shuffled pass over both sets together, each batch cut into its forget and its retain part."""
    forget, retain = run.split.forget, run.split.retain
    is_forget = torch.zeros(len(forget.data), dtype=torch.bool)
    is_forget[forget.index] = True
    union = Samples(forget.data, torch.cat([forget.index, retain.index]))
    for batch in _pass(run, "mixed", union, size):
        f, r = batch.take(is_forget[batch.index]), batch.take(~is_forget[batch.index])
        yield f if len(f) else None, r if len(r) else None


def steps_per_epoch(run: Source, schedule: str, size: int) -> int:
    """Return the number of pairs that one epoch of `schedule` has."""
    f, r = len(run.split.forget), len(run.split.retain)
    passes = {
        "forget": [f],
        "retain": [r],
        "forget+retain": [f],
        "retain+forget": [r],
        "sequential": [f, r],
        "mixed": [f + r],
    }
    return sum(-(-samples // size) for samples in passes[schedule])


def pieces(pair: Pair, count: int, union: bool = False) -> Iterator[tuple[Pair, float]]:
    """Cut a pair into pieces for gradient accumulation, each with its share of the step's loss.

    The share is that of the larger side, or with `union` that of all samples, where the loss is one mean over both sides. The
    sum of the pieces is then the loss of the step. It differs only if the samples of the smaller side do not divide by
    `count`: the ones in smaller pieces then weigh more. A side with fewer samples than pieces is in each piece as a whole, or with
    `union` in some of them.

    Args:
        pair: The batches of a step.
        count: Number of pieces.
        union: Whether the loss is one mean over both sides.
    """
    if count == 1:
        yield pair, 1.0
        return
    measure = sum if union else max
    size = measure(len(b) for b in pair if b is not None)
    count = min(count, max(len(b) for b in pair if b is not None))
    for k in range(count):
        cut = [_piece(b, k, count, union) for b in pair]
        yield (cut[0], cut[1]), measure(len(b) for b in cut if b is not None) / size


def _piece(batch: Batch | None, k: int, count: int, union: bool) -> Batch | None:
    if batch is None or (len(batch) < count and not union):
        return batch
    part = batch.take(slice(len(batch) * k // count, len(batch) * (k + 1) // count))
    return part if len(part) else None
