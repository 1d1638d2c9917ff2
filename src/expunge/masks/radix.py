"""The pieces of `topk`: floats as integers in the same order, brackets of them, histograms of what is in a bracket."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

DIGIT = 17  # bits that a histogram resolves: 1 MiB of counts
CHUNK = {"cpu": 1 << 18, "cuda": 1 << 24}  # values looked at together, at most
PARTS = (
    128  # on a GPU, of how many chunks all values are at least: a chunk's memory is then under 2 % of theirs
)


@dataclass(frozen=True)
class Kind:
    """A floating-point type: what its values are widened to, and the integers that their bits are read as."""

    wide: torch.dtype
    integer: torch.dtype
    bits: int  # of the magnitude: all but the sign


SINGLE = Kind(torch.float32, torch.int32, 31)
DOUBLE = Kind(torch.float64, torch.int64, 63)


@dataclass
class Bracket:
    """The k-th largest magnitude has bits from `low` to `high`, both included; `above` values are larger than `high`,
    `inside` are in the bracket (both known once the bracket came from a pass over all values)."""

    k: int
    low: int
    high: int
    above: int = 0
    inside: int = 0

    @property
    def shift(self) -> int:
        """Low bits that a histogram of the bracket leaves out."""
        return max(0, (self.high - self.low).bit_length() - DIGIT)


class Room:
    """Memory for one chunk, used again and again: fresh pieces of it would leave holes as large as the weights."""

    def __init__(self, kind: Kind, device: torch.device, total: int):
        self.size = CHUNK.get(device.type, CHUNK["cpu"])
        if device.type != "cpu":
            self.size = max(CHUNK["cpu"], min(self.size, total // PARTS))
        self.bits = torch.empty(self.size, dtype=kind.integer, device=device)
        self.over = torch.empty(self.size, dtype=torch.bool, device=device)
        self.inside = torch.empty(self.size, dtype=torch.bool, device=device)


class Histogram:
    """Counts of the values in a bracket. Those of many chunks wait to be counted at once: a count for each would cost
    more than the pass."""

    def __init__(self, bracket: Bracket, kind: Kind):
        self.low, self.shift = bracket.low, bracket.shift
        self.counts = torch.zeros(((bracket.high - bracket.low) >> self.shift) + 1, dtype=torch.int64)
        self.waiting = torch.empty(1 << 15, dtype=kind.integer)
        self.size = 0
        self.elsewhere: dict[torch.device, Tensor] = {}  # counts of values on GPUs, kept there to the end

    def add(self, bits: Any) -> None:
        """Count these values (n,), all of them inside the bracket, now or later."""
        if not isinstance(bits, np.ndarray):
            return self._count_there(bits)
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

    def _count_there(self, bits: Tensor) -> None:
        # bincount would wait for the device twice, for the least and the largest value; sums of integers are exact
        if bits.device not in self.elsewhere:
            self.elsewhere[bits.device] = torch.zeros_like(self.counts, device=bits.device)
        place = ((bits - self.low) >> self.shift).long()
        one = torch.ones((), dtype=torch.int64, device=bits.device)
        self.elsewhere[bits.device].scatter_add_(0, place, one.expand(len(place)))

    def _flush(self) -> None:
        self._count(self.waiting[: self.size])
        self.size = 0

    def finish(self) -> Tensor:
        """The counts (bins,), with what was waiting."""
        self._flush()
        for counts in self.elsewhere.values():
            self.counts += counts.cpu()
        self.elsewhere.clear()
        return self.counts


class Tally:
    """How many are true, summed over chunks; on a GPU without waiting for each."""

    def __init__(self) -> None:
        self.here = 0
        self.there: dict[torch.device, Tensor] = {}

    def add(self, where: Any) -> None:
        """Add the number of true entries."""
        if isinstance(where, np.ndarray):
            self.here += int(np.count_nonzero(where))
        else:
            found = torch.count_nonzero(where)
            self.there[where.device] = self.there.get(where.device, torch.zeros_like(found)) + found

    def __int__(self) -> int:
        return self.here + sum(int(count) for count in self.there.values())


def array(tensor: Tensor) -> Any:
    """The tensor's memory as NumPy where it is on the CPU, whose passes are faster there; else the tensor."""
    return tensor.numpy() if tensor.device.type == "cpu" else tensor


def more(bits: Any, than: int, out: Any) -> Any:
    """bits > than, written to `out`."""
    if isinstance(bits, np.ndarray):
        return np.greater(bits, than, out=out)
    return torch.gt(bits, than, out=out)
