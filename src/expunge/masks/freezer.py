"""What holds weights still while an optimizer steps: their gradients zeroed before, their values put back after.

Own code, because no library keeps parameters bit-identical under every optimizer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

SMALL = 1 << 16  # up to how many weights a tensor on a GPU shares its kernels with others
INTEGERS = {2: torch.int16, 4: torch.int32, 8: torch.int64}  # by the bytes of a weight


def local(value: Tensor) -> Tensor:
    """This process's part of a tensor that is sharded over processes; any other tensor as it is."""
    # a DTensor, told by its method: importing its class would cost every command half a second
    return value.to_local() if hasattr(value, "to_local") else value


def in_kernels(values: Tensor) -> bool:
    """Whether a kernel's launch costs more than its work on a small tensor: on whatever is no CPU."""
    return values.device.type != "cpu"


class Held:
    """What `masked` yields. `mask_gradients()` zeroes the gradients of held weights, for loops that clip their
    norm; the optimizer's step does it in any case.

    Kept is what is held and nothing else. On a CPU that is the held values, packed, and their positions, as large
    again. A bool a weight instead of the positions would take a quarter of their memory at density 0.5, but
    putting values back by it takes five to seven times as long (11.2 M weights, half of them held: 49 against 7
    ms), which shows at small batches; weights that are not contiguous do it that way. On a GPU, where a packed
    scatter needs a prefix sum as large as the tensor, it is the whole of each partly held tensor, and small
    tensors, of which networks have many, go through the same kernels together.
    """

    def __init__(self, weights: Mapping[str, nn.Parameter], mask: Mapping[str, Tensor]):
        self.partial: list[tuple[nn.Parameter, Tensor]] = []
        self.together: dict[tuple[torch.device, torch.dtype], Together] = {}
        self.still: list[tuple[nn.Parameter, bool]] = []
        anything = any(
            bool(m.any()) for m in mask.values()
        )  # else a backward pass would find nothing to go to
        for name, weight in weights.items():
            free = mask[name]
            sharded = local(weight) is not weight  # another process's part of it may move
            if anything and not sharded and not bool(free.any()):
                self.still.append((weight, weight.requires_grad))
            elif not bool(free.all()):
                self._hold(weight, free.to(weight.device))
        self.copies: list[Tensor] = []  # for each of `partial`
        self.where: list[
            Tensor | None
        ] = []  # positions of `copies`; None: all of the tensor, or found by the mask
        for weight, free in self.partial:
            values = local(weight.detach())
            packed = not in_kernels(values)
            self.copies.append(values[~free] if packed else values.clone())
            self.where.append(_positions(~free) if packed and values.is_contiguous() else None)

    @property
    def kept(self) -> list[Tensor]:
        """All that is kept of the weights."""
        return [bits for some in self.together.values() for bits in some.held] + self.copies

    def _hold(self, weight: nn.Parameter, free: Tensor) -> None:
        values = local(weight.detach())
        if not in_kernels(values):
            self.partial.append((weight, free))
        elif values.numel() <= SMALL and values.element_size() in INTEGERS:
            self.together.setdefault((values.device, values.dtype), Together()).add(weight, free)
        else:  # the mask in the weight's own order of memory: kernels then read both in one sweep
            self.partial.append((weight, torch.empty_like(values, dtype=torch.bool).copy_(free)))

    def mask_gradients(self, *_: object) -> None:
        """Zero the gradients of held weights."""
        for some in self.together.values():
            some.mask_gradients()
        there = [(local(p.grad), m) for p, m in self.partial if p.grad is not None]
        if there:
            torch._foreach_mul_([g for g, _ in there], [m for _, m in there])

    @torch.no_grad()
    def restore(self, *_: object) -> None:
        """Put the held weights back."""
        for some in self.together.values():
            some.restore()
        for (weight, free), where, kept in zip(self.partial, self.where, self.copies, strict=True):
            values: Tensor = local(weight)
            if in_kernels(values):
                torch.where(free, values, kept, out=values)
            elif where is not None and values.is_contiguous():
                values.view(-1).scatter_(0, where, kept)
            else:
                values.masked_scatter_(~free, kept)


@dataclass
class Together:
    """Partly held small tensors of one type on one device: three kernels for all of them instead of two for each.

    Their bits are read as integers, of which a product by 0 or 1 and a sum with 0 or the held bits are exact, for -0.0
    and NaN, too.
    """

    weights: list[nn.Parameter] = field(default_factory=list)
    free: list[Tensor] = field(default_factory=list)  # 1 where a weight may move, else 0
    held: list[Tensor] = field(default_factory=list)  # the bits of what is held, 0 elsewhere

    def add(self, weight: nn.Parameter, free: Tensor) -> None:
        """Hold the weight where `free` is false."""
        bits = _bits(local(weight.detach()))
        self.weights.append(weight)
        self.free.append(torch.empty_like(bits).copy_(free))
        self.held.append(bits * (1 - self.free[-1]))

    def mask_gradients(self) -> None:
        """Zero the gradients of held weights."""
        both = zip(self.weights, self.free, strict=True)
        dense = [(local(p.grad), f) for p, f in both if p.grad is not None and p.grad.layout == torch.strided]
        there = [(_bits(grad), free) for grad, free in dense]
        if there:
            torch._foreach_mul_([g for g, _ in there], [free for _, free in there])

    def restore(self) -> None:
        """Put the held weights back."""
        values = [_bits(local(p.detach())) for p in self.weights]
        torch._foreach_mul_(values, self.free)
        torch._foreach_add_(values, self.held)


def _bits(values: Tensor) -> Tensor:
    return values.view(INTEGERS[values.element_size()])


def _positions(held: Tensor) -> Tensor:
    small = held.numel() < 2**31
    return held.reshape(-1).nonzero()[:, 0].to(torch.int32 if small else torch.int64)
