"""The k largest magnitudes of many tensors together, exactly, without concatenating or sorting them.

The bits of a float's magnitude, read as an integer, are in the float's order. So a radix selection does it: a histogram
of the leading 12 bits finds the bin of the k-th largest value, a histogram of the next bits of that bin's values narrows
it, until the value is known to the last bit; ties go to the smaller position (order of the tensors, then of the
elements). Three streaming passes for float32 and one to write the answer, whatever k, and all densities share them; the
extra memory is one chunk of integers. A stable descending sort of all magnitudes gives the same answer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from .errors import MaskError

DIGIT = 12  # bits a histogram resolves: 4,096 bins stay in the processor's cache
CHUNK = {"cpu": 1 << 18, "cuda": 1 << 24}


class Shards(Protocol):
    """Other processes that hold parts of the same tensors; parts of a tensor follow each other in the order of `rank`."""

    rank: int

    def sum(self, counts: Tensor) -> Tensor:
        """The elementwise sum of every process's `counts`."""

    def gather(self, counts: Tensor) -> Tensor:
        """Every process's `counts` (T,), stacked in the order of the ranks: (R, T)."""


@dataclass(frozen=True)
class _Kind:
    integer: torch.dtype
    bits: int  # of the magnitude: all but the sign
    infinity: int


_KINDS = {torch.float32: _Kind(torch.int32, 31, 0x7F800000), torch.float64: _Kind(torch.int64, 63, 0x7FF0000000000000)}


def top_k(values: Mapping[str, Tensor], counts: Sequence[int], shards: Shards | None = None) -> list[dict[str, Tensor]]:
    """For each k of `counts`: bool tensors, true at the k largest |values| of all tensors together.

    Half-precision tensors are compared as float32 (exactly); if any tensor is float64, all are compared as float64. With
    `shards`, `values` are this process's parts, k counts over all processes, and the answer is for these parts. Raises
    `MaskError` for NaN, naming the tensors, and for a k below 0 or above the number of values.
    """
    wide = torch.float64 if any(v.dtype == torch.float64 for v in values.values()) else torch.float32
    picker = _Picker(values, _KINDS[wide], wide, shards)
    total = picker.total()
    if wrong := [k for k in counts if not 0 <= k <= total]:
        raise MaskError(f"{wrong} of {total} values were asked for; ask for 0 to {total}.")
    picker.refuse_nan()
    thresholds = {k: picker.threshold(k) for k in sorted(set(counts)) if 0 < k < total}
    return [picker.mask(k, thresholds.get(k), full=k == total) for k in counts]


class _Picker:
    def __init__(self, values: Mapping[str, Tensor], kind: _Kind, wide: torch.dtype, shards: Shards | None):
        self.values, self.kind, self.wide, self.shards = values, kind, wide, shards
        self.seen: dict[tuple[int, int], Tensor] = {}  # histograms by (bits above them, their value): shared by all k

    def chunks(self, value: Tensor) -> Iterator[Tensor]:
        """The magnitudes of a tensor as integers, a chunk at a time."""
        flat = value.detach().reshape(-1)
        for part in flat.split(CHUNK.get(flat.device.type, CHUNK["cpu"])):
            # int32 or int64 with the sign bit cleared
            yield part.to(self.wide).view(self.kind.integer) & (2**self.kind.bits - 1)

    def total(self) -> int:
        size = torch.tensor([sum(v.numel() for v in self.values.values())])
        return int(size if self.shards is None else self.shards.sum(size))

    def refuse_nan(self) -> None:
        top = self.histogram(self.kind.bits, 0)
        if not int(top[self.kind.infinity >> (self.kind.bits - DIGIT):].sum()):
            return
        bad = [n for n, v in self.values.items() if bool(v.isnan().any())]
        if bad:
            raise MaskError(f"{len(bad)} tensors hold NaN (first: {bad[:4]}), which has no rank; check the loss and the weights.")

    def histogram(self, high: int, prefix: int) -> Tensor:
        """Counts of the digit below bit `high` among magnitudes whose bits from `high` up are `prefix`."""
        if (high, prefix) not in self.seen:
            low = max(0, high - DIGIT)
            counts = torch.zeros(2 ** (high - low), dtype=torch.int64)
            for value in self.values.values():
                part = torch.zeros(len(counts), dtype=torch.int64, device=value.device)
                for bits in self.chunks(value):
                    digit = bits >> low
                    if high < self.kind.bits:
                        digit = digit[(bits >> high) == prefix] - (prefix << (high - low))
                    part += torch.bincount(digit, minlength=len(counts))
                counts += part.cpu()
            self.seen[high, prefix] = counts if self.shards is None else self.shards.sum(counts)
        return self.seen[high, prefix]

    def threshold(self, k: int) -> tuple[int, int]:
        """The bits of the k-th largest magnitude, and how many of those equal to it are among the k."""
        high, prefix = self.kind.bits, 0
        while high > 0:
            counts = self.histogram(high, prefix)
            above = counts.flip(0).cumsum(0).flip(0)  # of this digit or a larger one
            digit = int((above >= k).nonzero()[-1, 0])
            k -= int(above[digit] - counts[digit])
            low = max(0, high - DIGIT)
            prefix, high = (prefix << (high - low)) + digit, low
        return prefix, k

    def mask(self, k: int, threshold: tuple[int, int] | None, full: bool) -> dict[str, Tensor]:
        if threshold is None:
            return {n: torch.full_like(v, full and k > 0, dtype=torch.bool) for n, v in self.values.items()}
        bits, ties = threshold
        allowed = self.ties_here(bits, ties)
        return {n: self.mask_of(v, bits, allowed[i]) for i, (n, v) in enumerate(self.values.items())}

    def mask_of(self, value: Tensor, bits: int, ties: int) -> Tensor:
        """Above the threshold, or among the first `ties` equal to it."""
        parts = []
        for chunk in self.chunks(value):
            part = chunk > bits
            if ties:
                equal = (chunk == bits).nonzero()[:ties, 0]
                part[equal] = True
                ties -= len(equal)
            parts.append(part)
        return torch.cat(parts).view(value.shape) if parts else torch.zeros_like(value, dtype=torch.bool)

    def ties_here(self, bits: int, ties: int) -> list[int]:
        """How many values equal to the threshold each tensor (or this process's part of it) may keep."""
        equal = torch.tensor([sum(int((c == bits).sum()) for c in self.chunks(v)) for v in self.values.values()], dtype=torch.int64)
        every = equal[None] if self.shards is None else self.shards.gather(equal)  # (R, T)
        rank = 0 if self.shards is None else self.shards.rank
        before = (every.T.reshape(-1).cumsum(0) - every.T.reshape(-1)).view(every.T.shape).T[rank]  # tensor by tensor, then by rank
        return (ties - before).clamp_min(0).minimum(equal).tolist()
