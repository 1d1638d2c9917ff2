"""Find the k largest magnitudes of many tensors together, exactly, without concatenating or sorting them.

The bits of a float's magnitude, read as an integer, have the order of the floats. So a bracket of integers is narrowed until it
contains the k-th largest value only:

1. A sample of every n-th value gives a guess of the bracket.
2. A streaming pass over all values counts the values above the bracket and makes a histogram of those inside, which resolves
   float32 to the last bit. For float64, or if the guess missed, further passes follow. The answer never depends on the guess.

Ties go to the smaller position: order of the tensors, then of the elements. A stable descending sort of all magnitudes gives the
same answer. All k share the passes. The additional memory is one chunk, and one histogram for each k.

Own code, because it is faster than a sort and than `np.partition`, copies no values, breaks ties by position and works on
sharded tensors (docs/speed.md).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from ..errors import MaskError
from .radix import (
    DOUBLE,
    SINGLE,
    Bracket,
    ChunkBuffers,
    FloatFormat,
    Histogram,
    TrueCounter,
    as_array,
    greater,
)

# about how many values the first guess uses
GUESS_SAMPLES = 1 << 19


class Shards(Protocol):
    """The other processes that hold parts of the same tensors. The parts of a tensor are in the order of `rank`."""

    rank: int

    def sum(self, counts: Tensor) -> Tensor:
        """Return the elementwise sum of the `counts` of all processes."""

    def gather(self, counts: Tensor) -> Tensor:
        """Return the `counts` (T,) of all processes, stacked in the order of the ranks: (R, T)."""


def top_k(
    values: Mapping[str, Tensor], counts: Sequence[int], shards: Shards | None = None
) -> list[dict[str, Tensor]]:
    """Select the k largest |values| of all tensors together, for each k in `counts`.

    Half-precision tensors are compared as float32, which is exact. If any tensor is float64, all are compared as float64.

    Args:
        values: {name: tensor}.
        counts: Each k, from 0 to the number of values.
        shards: The other processes, if `values` holds this process's parts. Each k then counts over all processes, and the
            answer is for these parts.

    Returns:
        For each k, {name: bool tensor}, true at the selected values.

    Raises:
        MaskError: A value is NaN, or a k is out of range.

    Example:
        >>> top_k({"a": torch.tensor([3.0, -5.0, 1.0])}, [1])
        [{'a': tensor([False,  True, False])}]
    """
    return [selected for selected, _ in top_k_and_zeros(values, counts, shards)]


def top_k_and_zeros(
    values: Mapping[str, Tensor], counts: Sequence[int], shards: Shards | None = None
) -> list[tuple[dict[str, Tensor], int]]:
    """Return the answers of `top_k`, each with the number of selected values that are zero.

    Zeros are equal, so their position alone selects some and not others. The number counts over all processes. It is 0 where
    every value is selected, because position decides nothing there.
    """
    any_double = any(v.dtype == torch.float64 for v in values.values())
    selector = _Selector(values, DOUBLE if any_double else SINGLE, shards)
    if invalid := [k for k in counts if not 0 <= k <= selector.total]:
        raise MaskError(
            f"cannot select {invalid} of {selector.total} values; ask for 0 to {selector.total} values."
        )
    selector.refuse_nan()
    thresholds = selector.thresholds(sorted({k for k in counts if 0 < k < selector.total}))
    return [
        (selector.masks_above(thresholds[k]), thresholds[k].zeros_selected)
        if k in thresholds
        else (selector.constant(k > 0), 0)
        for k in counts
    ]


class _Selector:
    def __init__(self, values: Mapping[str, Tensor], float_format: FloatFormat, shards: Shards | None):
        self.values, self.float_format, self.shards = values, float_format, shards
        self.largest = 2**float_format.bits - 1
        self.buffers_of: dict[torch.device, ChunkBuffers] = {}
        self.local_total = sum(v.numel() for v in values.values())
        self.total = int(self.sum(torch.tensor([self.local_total])))

    def sum(self, counts: Tensor) -> Tensor:
        return counts if self.shards is None else self.shards.sum(counts)

    def buffers(self, device: torch.device) -> ChunkBuffers:
        if device not in self.buffers_of:
            self.buffers_of[device] = ChunkBuffers(self.float_format, device, self.local_total)
        return self.buffers_of[device]

    def chunks(self, value: Tensor) -> Iterator[Any]:
        """Yield the magnitudes as integers, chunk by chunk, each valid until the next.

        A chunk is an array on the CPU, where NumPy is several times faster, and a tensor elsewhere.
        """
        flat = value.detach().reshape(-1)
        buffers = self.buffers(flat.device)
        for part in flat.split(buffers.size):
            bits = buffers.bits[: len(part)]
            integers = part.to(self.float_format.float_type).view(self.float_format.integer)
            torch.bitwise_and(integers, self.largest, out=bits)
            yield as_array(bits)

    def refuse_nan(self) -> None:
        # amax keeps NaN
        flags = {n: v.detach().amax().isnan() for n, v in self.values.items() if v.numel()}
        nan_names = []
        # wait once for each device
        for device in {flag.device: None for flag in flags.values()}:
            names = [n for n, flag in flags.items() if flag.device == device]
            is_nan = torch.stack([flags[n] for n in names]).tolist()
            nan_names += [n for n, flag in zip(names, is_nan, strict=True) if flag]
        if int(self.sum(torch.tensor([len(nan_names)]))):
            raise MaskError(
                f"scores contain NaN, which has no rank ({len(nan_names)} tensors here, first: {nan_names[:4]}); check the loss "
                "and the parameters."
            )

    # ---- find the k-th largest value

    def thresholds(self, ks: Sequence[int]) -> dict[int, Bracket]:
        """Return for each k a bracket that contains one value."""
        brackets = self.guesses(ks) if ks else []
        while wide := [b for b in brackets if b.low < b.high or not b.inside]:
            self.narrow(wide)
        return {b.k: b for b in brackets}

    def guesses(self, ks: Sequence[int]) -> list[Bracket]:
        """Guess where the k-th largest values are, from every `stride`-th value, with a margin of four standard errors."""
        stride, seen = max(1, self.total // GUESS_SAMPLES), 0
        histogram = Histogram(Bracket(0, 0, self.largest), self.float_format)
        for value in self.values.values():
            sampled = value.detach().reshape(-1)[-seen % stride :: stride]
            sampled = sampled.to(self.float_format.float_type).contiguous()
            histogram.add(as_array(sampled.view(self.float_format.integer) & self.largest))
            seen += value.numel()
        shift, counts = histogram.shift, self.sum(histogram.finish())
        size = int(counts.sum())
        # number of sampled values in this bin or a higher one
        at_least = counts.flip(0).cumsum(0).flip(0)
        brackets = []
        for k in ks:
            share = k / self.total
            margin = 4 * (size * share * (1 - share)) ** 0.5 + 2
            few, many = share * size - margin, share * size + margin
            highest, lowest = (int((at_least >= max(1.0, rank)).sum()) - 1 for rank in (few, many))
            high = ((highest + 1) << shift) - 1 if few > 0 else self.largest
            brackets.append(Bracket(k, max(0, lowest) << shift, high))
        return brackets

    def narrow(self, brackets: Sequence[Bracket]) -> None:
        """Narrow each bracket in one pass over all values to the part that contains the k-th value.

        After a wrong guess, the bracket moves to the side that contains it.
        """
        above = [TrueCounter() for _ in brackets]
        histograms = [Histogram(b, self.float_format) for b in brackets]
        for value in self.values.values():
            buffers = self.buffers(value.device)
            for bits in self.chunks(value):
                is_above = as_array(buffers.above[: len(bits)])
                at_least_low = as_array(buffers.at_least_low[: len(bits)])
                for i, b in enumerate(brackets):
                    above[i].add(greater(bits, b.high, is_above))
                    greater(bits, b.low - 1, at_least_low)
                    histograms[i].add(bits[at_least_low ^ is_above])
        above_counts = self.sum(torch.tensor([int(counter) for counter in above])).tolist()
        for b, above_count, histogram in zip(brackets, above_counts, histograms, strict=True):
            b.narrow(above_count, self.sum(histogram.finish()), self.largest)

    # ---- make the masks

    def constant(self, value: bool) -> dict[str, Tensor]:
        return {
            n: torch.full_like(v, value, dtype=torch.bool, memory_format=torch.contiguous_format)
            for n, v in self.values.items()
        }

    def masks_above(self, threshold: Bracket) -> dict[str, Tensor]:
        # number of the values equal to the threshold that are selected
        ties = threshold.k - threshold.above
        some_ties = ties < threshold.inside
        local_ties = self.ties_here(threshold.low, ties) if some_ties else [None] * len(self.values)
        return {
            n: self.mask_above(v, threshold.low, limit)
            for (n, v), limit in zip(self.values.items(), local_ties, strict=True)
        }

    def mask_above(self, value: Tensor, threshold: int, ties: int | None) -> Tensor:
        """Select values above the threshold, and of those equal to it the first `ties` (None for all)."""
        mask = torch.empty(value.numel(), dtype=torch.bool, device=value.device)
        flags = as_array(mask)
        start = 0
        for chunk in self.chunks(value):
            part = flags[start : start + len(chunk)]
            start += len(chunk)
            greater(chunk, threshold - 1 if ties is None else threshold, part)
            if ties:
                equal = (chunk == threshold).nonzero()
                first = (equal[0] if isinstance(equal, tuple) else equal[:, 0])[:ties]
                part[first] = True
                ties -= len(first)
        return mask.view(value.shape)

    def ties_here(self, threshold: int, ties: int) -> list[int]:
        """Return for each tensor (or this process's part) how many values equal to the threshold are selected."""
        counters = [TrueCounter() for _ in self.values]
        for counter, value in zip(counters, self.values.values(), strict=True):
            for chunk in self.chunks(value):
                counter.add(chunk == threshold)
        equal = torch.tensor([int(counter) for counter in counters], dtype=torch.int64)
        by_rank = equal[None] if self.shards is None else self.shards.gather(equal)  # (R, T)
        rank = 0 if self.shards is None else self.shards.rank
        # tensor by tensor, then rank by rank
        in_order = by_rank.T.reshape(-1)
        before = (in_order.cumsum(0) - in_order).view(by_rank.T.shape)[:, rank]
        return (ties - before).clamp_min(0).minimum(equal).tolist()
