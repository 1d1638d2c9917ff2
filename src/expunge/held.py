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

    Kept is what is held and nothing else. On a CPU that is the held values, packed, and one bool a weight to say
    where they go: scattering them by index is faster (11.2 M weights, half of them held: 7 against 49 ms, beside
    a step of seconds) but the positions would take twice the memory of the values. On a GPU, where a packed
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
        self.held: list[Tensor] = []  # where `kept` belongs: held weights (CPU), or the mask itself
        for weight, free in self.partial:
            values = local(weight.detach())
            packed = values.device.type == "cpu"
            self.held.append(~free if packed else free)
            self.kept.append(values[~free].clone() if packed else values.clone())

    def mask_gradients(self, *_: object) -> None:
        """Zero the gradients of held weights."""
        there = [(local(p.grad), m) for p, m in self.partial if p.grad is not None]
        if there:
            torch._foreach_mul_([g for g, _ in there], [m for _, m in there])

    @torch.no_grad()
    def restore(self, *_: object) -> None:
        """Put the held weights back."""
        for (weight, _free), held, kept in zip(self.partial, self.held, self.kept, strict=True):
            values: Tensor = local(weight)
            if values.device.type == "cpu":
                values.masked_scatter_(held, kept)
            else:
                torch.where(held, values, kept, out=values)
