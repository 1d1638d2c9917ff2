"""Which batches a step sees: the passes over forget and retain set that methods are made of."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

import torch

from ..data.batch import Batch
from ..data.samples import Samples
from .run import Run

Pair: TypeAlias = tuple[Batch | None, Batch | None]


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
            yield f, r.take(slice(len(f))) if len(r) > len(f) else r
    if schedule == "retain+forget":
        beside = _endless(run, "forget", forget, size)
        for r in _stream(run, "retain", retain, size):
            f = next(beside)
            yield f.take(slice(len(r))) if len(f) > len(r) else f, r
    if schedule == "mixed":
        yield from _mixed(run, size)


def _mixed(run: Run, size: int) -> Iterator[Pair]:
    forget, retain = run.split.forget, run.split.retain
    is_forget = torch.zeros(len(forget.data), dtype=torch.bool)
    is_forget[forget.index] = True
    union = Samples(forget.data, torch.cat([forget.index, retain.index]))
    for batch in _stream(run, "mixed", union, size):
        f, r = batch.take(is_forget[batch.index]), batch.take(~is_forget[batch.index])
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


def pieces(pair: Pair, count: int, union: bool = False) -> Iterator[tuple[Pair, float]]:
    """A pair cut for gradient accumulation, each piece with its share of the step's loss.

    That is the piece's share of the larger side, or with `union`, where the loss is one mean over both sides, of all samples.
    The pieces' sum is then the step's loss, but for a smaller side whose samples do not divide by `count`: of those, the
    ones in smaller pieces weigh more. A side of fewer samples than there are pieces is in each as a whole, or with `union` in
    some.
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
