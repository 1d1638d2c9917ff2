"""The pieces of `topk`: floats as integers in the same order, brackets of them, histograms of what is in a bracket."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

DIGIT = 17  # bits that a histogram resolves: 1 MiB of counts
CHUNK = {"cpu": 1 << 18, "cuda": 1 << 24}


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

    def __init__(self, kind: Kind, device: torch.device):
        self.size = CHUNK.get(device.type, CHUNK["cpu"])
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

    def add(self, bits: Any) -> None:
        """Count these values (n,), all of them inside the bracket, now or later."""
        if self.size + len(bits) > len(self.waiting):
            self.finish()
        if len(bits) > len(self.waiting) or not isinstance(bits, np.ndarray):
            self._count(torch.as_tensor(bits))
        else:
            self.waiting[self.size : self.size + len(bits)] = torch.from_numpy(bits)
            self.size += len(bits)

    def _count(self, bits: Tensor) -> None:
        if len(bits):
            self.counts += torch.bincount((bits - self.low) >> self.shift, minlength=len(self.counts)).cpu()

    def finish(self) -> Tensor:
        """The counts (bins,), with what was waiting."""
        self._count(self.waiting[: self.size])
        self.size = 0
        return self.counts


def array(tensor: Tensor) -> Any:
    """The tensor's memory as NumPy where it is on the CPU, whose passes are faster there; else the tensor."""
    return tensor.numpy() if tensor.device.type == "cpu" else tensor


def more(bits: Any, than: int, out: Any) -> Any:
    """bits > than, written to `out`."""
    if isinstance(bits, np.ndarray):
        return np.greater(bits, than, out=out)
    return torch.gt(bits, than, out=out)


def count(where: Any) -> int:
    """How many are true."""
    return int(np.count_nonzero(where)) if isinstance(where, np.ndarray) else int(torch.count_nonzero(where))
