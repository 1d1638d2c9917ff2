"""The k largest magnitudes of many tensors together, exactly, without concatenating or sorting them.

The bits of a float's magnitude, read as an integer, are in the float's order. So the k-th largest value is found by
narrowing a bracket of integers. A look at every so many values says about where it lies; one streaming pass over all
values counts those above that bracket and makes a histogram of the few inside, which gives the value to the last bit
(float64, or a bracket that missed, takes further passes: the answer never rests on the guess). Ties go to the smaller
position (order of the tensors, then of the elements). A stable descending sort of all magnitudes gives the same answer.
All k share the passes; the extra memory is one chunk and one histogram for each k.

Own code, because it is faster than a sort and than `np.partition`, copies no values, breaks ties by position and works on
sharded tensors (docs/speed.md).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from ..errors import MaskError
from .radix import DOUBLE, SINGLE, Bracket, Histogram, Kind, Room, Tally, array, more

PILOT = 1 << 19  # about how many values the first guess looks at


class Shards(Protocol):
    """Other processes that hold parts of the same tensors; parts of a tensor follow each other in the order of `rank`."""

    rank: int

    def sum(self, counts: Tensor) -> Tensor:
        """The elementwise sum of every process's `counts`."""

    def gather(self, counts: Tensor) -> Tensor:
        """Every process's `counts` (T,), stacked in the order of the ranks: (R, T)."""


def top_k(
    values: Mapping[str, Tensor], counts: Sequence[int], shards: Shards | None = None
) -> list[dict[str, Tensor]]:
    """For each k of `counts`: bool tensors, true at the k largest |values| of all tensors together.

    Half-precision tensors are compared as float32 (exactly); if any tensor is float64, all are compared as float64. With
    `shards`, `values` are this process's parts, k counts over all processes, and the answer is for these parts. Raises
    `MaskError` for NaN, naming the tensors, and for a k below 0 or above the number of values.
    """
    picker = _Picker(
        values, DOUBLE if any(v.dtype == torch.float64 for v in values.values()) else SINGLE, shards
    )
    if wrong := [k for k in counts if not 0 <= k <= picker.total]:
        raise MaskError(f"{wrong} of {picker.total} values were asked for; ask for 0 to {picker.total}.")
    picker.refuse_nan()
    found = picker.thresholds(sorted({k for k in counts if 0 < k < picker.total}))
    return [picker.mask(found[k]) if k in found else picker.constant(k > 0) for k in counts]


class _Picker:
    def __init__(self, values: Mapping[str, Tensor], kind: Kind, shards: Shards | None):
        self.values, self.kind, self.shards = values, kind, shards
        self.top = 2**kind.bits - 1
        self.rooms: dict[torch.device, Room] = {}
        self.own = sum(v.numel() for v in values.values())
        self.total = int(self.sum(torch.tensor([self.own])))

    def sum(self, counts: Tensor) -> Tensor:
        return counts if self.shards is None else self.shards.sum(counts)

    def room(self, device: torch.device) -> Room:
        if device not in self.rooms:
            self.rooms[device] = Room(self.kind, device, self.own)
        return self.rooms[device]

    def chunks(self, value: Tensor) -> Iterator[Any]:
        """The magnitudes as integers, a chunk at a time, each valid until the next: an array on the CPU (NumPy
        counts and picks several times faster), a tensor elsewhere."""
        flat = value.detach().reshape(-1)
        room = self.room(flat.device)
        for part in flat.split(room.size):
            found = room.bits[: len(part)]
            torch.bitwise_and(part.to(self.kind.wide).view(self.kind.integer), self.top, out=found)
            yield array(found)

    def refuse_nan(self) -> None:
        found = {n: v.detach().amax().isnan() for n, v in self.values.items() if v.numel()}  # amax keeps NaN
        bad = []
        for device in {f.device: None for f in found.values()}:  # each device is waited for once
            names = [n for n, f in found.items() if f.device == device]
            flags = torch.stack([found[n] for n in names]).tolist()
            bad += [n for n, flag in zip(names, flags, strict=True) if flag]
        if int(self.sum(torch.tensor([len(bad)]))):
            raise MaskError(
                f"tensors hold NaN ({len(bad)} here, first: {bad[:4]}), which has no rank; check the loss and the weights."
            )

    # ---- the k-th largest value

    def thresholds(self, ks: Sequence[int]) -> dict[int, Bracket]:
        """Brackets of one value each."""
        brackets = self.guesses(ks) if ks else []
        while wide := [b for b in brackets if b.low < b.high or not b.inside]:
            self.narrow(wide)
        return {b.k: b for b in brackets}

    def guesses(self, ks: Sequence[int]) -> list[Bracket]:
        """Where the k-th largest values lie, from every `stride`-th value, with a margin of four standard errors."""
        stride, seen = max(1, self.total // PILOT), 0
        histogram = Histogram(Bracket(0, 0, self.top), self.kind)
        for value in self.values.values():
            few = value.detach().reshape(-1)[-seen % stride :: stride].to(self.kind.wide).contiguous()
            histogram.add(array(few.view(self.kind.integer) & self.top))
            seen += value.numel()
        low, counts = histogram.shift, self.sum(histogram.finish())
        size = int(counts.sum())
        reach = counts.flip(0).cumsum(0).flip(0)  # values of this digit or a larger one
        found = []
        for k in ks:
            share = k / self.total
            margin = 4 * (size * share * (1 - share)) ** 0.5 + 2
            most, least = (
                int((reach >= max(1.0, r)).sum()) - 1 for r in (share * size - margin, share * size + margin)
            )
            found.append(
                Bracket(
                    k, max(0, least) << low, ((most + 1) << low) - 1 if share * size > margin else self.top
                )
            )
        return found

    def narrow(self, brackets: Sequence[Bracket]) -> None:
        """One pass over all values: each bracket becomes the part of it (or, after a wrong guess, the side) that the
        k-th value is in."""
        above = [Tally() for _ in brackets]
        histograms = [Histogram(b, self.kind) for b in brackets]
        for value in self.values.values():
            room = self.room(value.device)
            for bits in self.chunks(value):
                over, inside = array(room.over[: len(bits)]), array(room.inside[: len(bits)])
                for i, b in enumerate(brackets):
                    above[i].add(more(bits, b.high, over))
                    more(bits, b.low - 1, inside)
                    histograms[i].add(bits[inside ^ over])
        larger = self.sum(torch.tensor([int(tally) for tally in above])).tolist()
        for b, above_all, histogram in zip(brackets, larger, histograms, strict=True):
            counts = self.sum(histogram.finish())
            if above_all >= b.k:
                b.low, b.high = b.high + 1, self.top
            elif above_all + int(counts.sum()) < b.k:
                b.low, b.high = 0, b.low - 1
            else:
                reach = counts.flip(0).cumsum(0).flip(0) + above_all
                digit, shift = int((reach >= b.k).nonzero()[-1, 0]), b.shift
                b.inside = int(counts[digit])
                b.above = int(reach[digit]) - b.inside
                b.low, b.high = b.low + (digit << shift), min(b.high, b.low + ((digit + 1) << shift) - 1)

    # ---- the answer

    def constant(self, value: bool) -> dict[str, Tensor]:
        return {
            n: torch.full_like(v, value, dtype=torch.bool, memory_format=torch.contiguous_format)
            for n, v in self.values.items()
        }

    def mask(self, found: Bracket) -> dict[str, Tensor]:
        ties = found.k - found.above  # how many of the values equal to the threshold are wanted
        allowed = self.ties_here(found.low, ties) if ties < found.inside else [None] * len(self.values)
        return {
            n: self.mask_of(v, found.low, few)
            for (n, v), few in zip(self.values.items(), allowed, strict=True)
        }

    def mask_of(self, value: Tensor, bits: int, ties: int | None) -> Tensor:
        """Above the threshold, or equal to it: all of those, or the first `ties`."""
        out = torch.empty(value.numel(), dtype=torch.bool, device=value.device)
        place = array(out)
        start = 0
        for chunk in self.chunks(value):
            part = place[start : start + len(chunk)]
            start += len(chunk)
            more(chunk, bits - 1 if ties is None else bits, part)
            if ties:
                equal = (chunk == bits).nonzero()
                first = (equal[0] if isinstance(equal, tuple) else equal[:, 0])[:ties]
                part[first] = True
                ties -= len(first)
        return out.view(value.shape)

    def ties_here(self, bits: int, ties: int) -> list[int]:
        """How many values equal to the threshold each tensor (or this process's part of it) may keep."""
        found = [Tally() for _ in self.values]
        for tally, value in zip(found, self.values.values(), strict=True):
            for chunk in self.chunks(value):
                tally.add(chunk == bits)
        equal = torch.tensor([int(tally) for tally in found], dtype=torch.int64)
        every = equal[None] if self.shards is None else self.shards.gather(equal)  # (R, T)
        rank = 0 if self.shards is None else self.shards.rank
        order = every.T.reshape(-1)  # tensor by tensor, then by rank
        before = (order.cumsum(0) - order).view(every.T.shape)[:, rank]
        return (ties - before).clamp_min(0).minimum(equal).tolist()
