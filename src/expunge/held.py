"""What holds weights still while an optimizer steps: their gradients zeroed before, their values put back after."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn


def local(value: Tensor) -> Tensor:
    """This process's part of a tensor that is sharded over processes; any other tensor as it is."""
    # a DTensor, told by its method: importing its class would cost every command half a second
    return value.to_local() if hasattr(value, "to_local") else value


class Held:
    """What `masked` yields. `mask_gradients()` zeroes the gradients of held weights, for loops that clip their
    norm; the optimizer's step does it in any case.

    Kept is what is held and nothing else. On a CPU that is the held values, packed, and their positions, as large
    again. A bool a weight instead of the positions would take a quarter of their memory at density 0.5, but
    putting values back by it takes five to seven times as long (11.2 M weights, half of them held: 49 against 7
    ms), which shows at small batches; weights that are not contiguous do it that way. On a GPU, where a packed
    scatter needs a prefix sum as large as the tensor, it is the whole of each partly held tensor.
    """

    def __init__(self, weights: Mapping[str, nn.Parameter], mask: Mapping[str, Tensor]):
        self.partial: list[tuple[nn.Parameter, Tensor]] = []
        self.still: list[tuple[nn.Parameter, bool]] = []
        anything = any(
            bool(m.any()) for m in mask.values()
        )  # else a backward pass would find nothing to go to
        for name, weight in weights.items():
            free = mask[name].to(weight.device)
            sharded = local(weight) is not weight  # another process's part of it may move
            if anything and not sharded and not bool(free.any()):
                self.still.append((weight, weight.requires_grad))
            elif not bool(free.all()):
                self.partial.append((weight, free))
        self.kept: list[Tensor] = []
        self.where: list[
            Tensor | None
        ] = []  # positions of `kept`; None: all of the tensor, or found by the mask
        for weight, free in self.partial:
            values = local(weight.detach())
            packed = values.device.type == "cpu"
            self.kept.append(values[~free] if packed else values.clone())
            self.where.append(_positions(~free) if packed and values.is_contiguous() else None)

    def mask_gradients(self, *_: object) -> None:
        """Zero the gradients of held weights."""
        there = [(local(p.grad), m) for p, m in self.partial if p.grad is not None]
        if there:
            torch._foreach_mul_([g for g, _ in there], [m for _, m in there])

    @torch.no_grad()
    def restore(self, *_: object) -> None:
        """Put the held weights back."""
        for (weight, free), where, kept in zip(self.partial, self.where, self.kept, strict=True):
            values: Tensor = local(weight)
            if values.device.type != "cpu":
                torch.where(free, values, kept, out=values)
            elif where is not None and values.is_contiguous():
                values.view(-1).scatter_(0, where, kept)
            else:
                values.masked_scatter_(~free, kept)


def _positions(held: Tensor) -> Tensor:
    small = held.numel() < 2**31
    return held.reshape(-1).nonzero()[:, 0].to(torch.int32 if small else torch.int64)
