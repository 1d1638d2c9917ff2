"""Parts of the exact top-k selection: floats as integers in the same order, brackets of these integers, and histograms."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

# bits that a histogram resolves: 1 MiB of counts
DIGIT = 17
# maximum number of values handled together
CHUNK = {"cpu": 1 << 18, "cuda": 1 << 24}
# On a GPU the values form at least this many chunks. The buffers of a chunk then take less than 2 % of their memory.
MIN_CHUNKS = 128


@dataclass(frozen=True)
class FloatFormat:
    """A floating-point type of the comparison.

    Args:
        float_type: The type to which all values are widened.
        integer: The integer type that reads their bits.
        bits: Number of bits of the magnitude: all but the sign.
    """

    float_type: torch.dtype
    integer: torch.dtype
    bits: int


SINGLE = FloatFormat(torch.float32, torch.int32, 31)
DOUBLE = FloatFormat(torch.float64, torch.int64, 63)


@dataclass
class Bracket:
    """A range of magnitudes, read as integers, that contains the k-th largest one.

    Args:
        k: The rank, from 1.
        low: Smallest integer of the bracket.
        high: Largest integer of the bracket.
        above: Number of values larger than `high`. Known after the first pass over all values.
        inside: Number of values in the bracket. Known after the first pass over all values.
    """

    k: int
    low: int
    high: int
    above: int = 0
    inside: int = 0

    @property
    def shift(self) -> int:
        """Number of low bits that a histogram of the bracket leaves out."""
        return max(0, (self.high - self.low).bit_length() - DIGIT)

    @property
    def zeros_selected(self) -> int:
        """Number of zeros among the k largest values, of a bracket that contains one value."""
        return self.k - self.above if self.low == 0 else 0

    def narrow(self, above: int, counts: Tensor, largest: int) -> None:
        """Narrow the bracket to the part that contains the k-th value, or move it to the side that does.

        Args:
            above: Number of values above the bracket.
            counts: Histogram of the values inside.
            largest: Largest integer of all magnitudes.
        """
        if above >= self.k:
            self.low, self.high = self.high + 1, largest
        elif above + int(counts.sum()) < self.k:
            self.low, self.high = 0, self.low - 1
        else:
            at_least = counts.flip(0).cumsum(0).flip(0) + above
            digit, shift = int((at_least >= self.k).nonzero()[-1, 0]), self.shift
            self.inside = int(counts[digit])
            self.above = int(at_least[digit]) - self.inside
            self.low, self.high = (
                self.low + (digit << shift),
                min(self.high, self.low + ((digit + 1) << shift) - 1),
            )


class ChunkBuffers:
    """Memory for one chunk, used for all chunks: new memory for each would leave holes as large as the parameters.

    Args:
        float_format: The type of the comparison.
        device: Where the chunks are.
        total: Number of all values.
    """

    def __init__(self, float_format: FloatFormat, device: torch.device, total: int):
        self.size = CHUNK.get(device.type, CHUNK["cpu"])
        if device.type != "cpu":
            self.size = max(CHUNK["cpu"], min(self.size, total // MIN_CHUNKS))
        self.bits = torch.empty(self.size, dtype=float_format.integer, device=device)
        self.above = torch.empty(self.size, dtype=torch.bool, device=device)
        self.at_least_low = torch.empty(self.size, dtype=torch.bool, device=device)


class Histogram:
    """Count the values in a bracket.

    Values of many small chunks wait and are counted together, because a count for each chunk costs more than the pass.

    Args:
        bracket: The bracket.
        float_format: The type of the comparison.
    """

    def __init__(self, bracket: Bracket, float_format: FloatFormat):
        self.low, self.shift = bracket.low, bracket.shift
        self.counts = torch.zeros(((bracket.high - bracket.low) >> self.shift) + 1, dtype=torch.int64)
        self.waiting = torch.empty(1 << 15, dtype=float_format.integer)
        self.size = 0
        # counts of values on GPUs, which stay there until the end
        self.device_counts: dict[torch.device, Tensor] = {}

    def add(self, bits: Any) -> None:
        """Count the values `bits` (n,) now or later. All must be inside the bracket."""
        if not isinstance(bits, np.ndarray):
            return self._count_on_device(bits)
        if self.size + len(bits) > len(self.waiting):
            self._flush()
        if len(bits) > len(self.waiting):
            self._count(torch.from_numpy(bits))
        else:
            self.waiting[self.size : self.size + len(bits)] = torch.from_numpy(bits)
            self.size += len(bits)

    def _count(self, bits: Tensor) -> None:
        if len(bits):
            self.counts += torch.bincount((bits - self.low) >> self.shift, minlength=len(self.counts))

    def _count_on_device(self, bits: Tensor) -> None:
        # bincount would wait for the device twice, for the smallest and the largest value. Sums of integers are exact.
        if bits.device not in self.device_counts:
            self.device_counts[bits.device] = torch.zeros_like(self.counts, device=bits.device)
        bins = ((bits - self.low) >> self.shift).long()
        one = torch.ones((), dtype=torch.int64, device=bits.device)
        self.device_counts[bits.device].scatter_add_(0, bins, one.expand(len(bins)))

    def _flush(self) -> None:
        self._count(self.waiting[: self.size])
        self.size = 0

    def finish(self) -> Tensor:
        """Return the counts (bins,) on the CPU, including the values that waited."""
        self._flush()
        for counts in self.device_counts.values():
            self.counts += counts.cpu()
        self.device_counts.clear()
        return self.counts


class TrueCounter:
    """Count true entries over chunks. On a GPU it does not wait for each chunk."""

    def __init__(self) -> None:
        self.cpu_count = 0
        self.device_counts: dict[torch.device, Tensor] = {}

    def add(self, flags: Any) -> None:
        """Add the number of true entries."""
        if isinstance(flags, np.ndarray):
            self.cpu_count += int(np.count_nonzero(flags))
        else:
            count = torch.count_nonzero(flags)
            self.device_counts[flags.device] = (
                self.device_counts.get(flags.device, torch.zeros_like(count)) + count
            )

    def __int__(self) -> int:
        return self.cpu_count + sum(int(count) for count in self.device_counts.values())


def as_array(tensor: Tensor) -> Any:
    """Return a CPU tensor as a NumPy array of the same memory, whose passes are faster; any other tensor unchanged."""
    return tensor.numpy() if tensor.device.type == "cpu" else tensor


def greater(bits: Any, threshold: int, out: Any) -> Any:
    """Write `bits > threshold` to `out` and return it."""
    if isinstance(bits, np.ndarray):
        return np.greater(bits, threshold, out=out)
    return torch.gt(bits, threshold, out=out)
