"""Keep parameters unchanged while an optimizer steps: zero their gradients before a step, restore their values after it.

Own code, because no library keeps parameters bit-identical under every optimizer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

# On a GPU, tensors of at most this many elements are handled together by the same kernels.
SMALL = 1 << 16
# integer type of the same size, by the bytes of an element
INTEGERS = {2: torch.int16, 4: torch.int32, 8: torch.int64}


def local_part(tensor: Tensor) -> Tensor:
    """Return this process's part of a sharded tensor, and any other tensor unchanged."""
    # A DTensor is recognised by its method. Importing its class would cost every command half a second.
    return tensor.to_local() if hasattr(tensor, "to_local") else tensor


def on_accelerator(tensor: Tensor) -> bool:
    """Whether the tensor is not on a CPU, so that starting a kernel costs more than its work on a small tensor."""
    return tensor.device.type != "cpu"


def on_gradient(parameter: Tensor, change: Callable[[Tensor], None]) -> RemovableHandle:
    """Call `change(parameter)` after each backward pass that reaches a parameter, also if it requires a gradient only later.

    Returns:
        What `remove()` ends it by.
    """
    required = parameter.requires_grad
    # torch registers hooks only on tensors that require a gradient, and keeps them when that changes
    parameter.requires_grad_(True)
    try:
        return parameter.register_post_accumulate_grad_hook(change)
    finally:
        parameter.requires_grad_(required)


class Freezer:
    """Keep the parameters outside a mask unchanged. `masked` yields one.

    The freezer stores the frozen values only:

    - On a CPU it stores the frozen values, packed, and their positions, which take as much memory again. A bool per
      element instead of the positions takes a quarter of their memory at density 0.5. But restoring by bools takes five
      to seven times as long (11.2 M parameters, half of them frozen: 49 ms instead of 7 ms), which shows with small
      batches. Tensors that are not contiguous are restored by bools.
    - On a GPU a packed scatter needs a prefix sum as large as the tensor. So the freezer stores each partly frozen
      tensor whole, and handles small tensors together.
    - Of a parameter without a movable element it stores nothing: it leaves autograd, and an optimizer leaves out what has no
      gradient. If a loop lets it require a gradient again, this gradient is removed before the optimizer reads it.

    Args:
        parameters: {name: parameter} of the model.
        mask: {name: bool tensor}, true where the parameter may move.
        keep_in_autograd: Compute the gradients of parameters without a movable element too.

    Attributes:
        fully_frozen: The parameters without a movable element, each with the `requires_grad` it had.
    """

    def __init__(
        self,
        parameters: Mapping[str, nn.Parameter],
        mask: Mapping[str, Tensor],
        *,
        keep_in_autograd: bool = False,
    ):
        self.partly_frozen: list[tuple[nn.Parameter, Tensor]] = []
        self.small: dict[tuple[torch.device, torch.dtype], SmallTensors] = {}
        self.fully_frozen: list[tuple[nn.Parameter, bool]] = []
        self._hooks: list[RemovableHandle] = []
        # if nothing may move, one parameter must stay in autograd: a backward pass without any raises an error
        any_movable = any(bool(movable.any()) for movable in mask.values())
        for name, parameter in parameters.items():
            movable = mask[name]
            # of a sharded parameter, another process's part may move
            sharded = local_part(parameter) is not parameter
            if any_movable and not (sharded or keep_in_autograd) and not bool(movable.any()):
                self.fully_frozen.append((parameter, parameter.requires_grad))
            elif not bool(movable.all()):
                self._freeze(parameter, movable.to(parameter.device))
        # For each parameter in `partly_frozen`: the stored values, and their positions. Positions are None where the
        # whole tensor is stored or where the mask gives the positions.
        self.copies: list[Tensor] = []
        self.positions: list[Tensor | None] = []
        for parameter, movable in self.partly_frozen:
            values = local_part(parameter.detach())
            packed = not on_accelerator(values)
            self.copies.append(values[~movable] if packed else values.clone())
            self.positions.append(_positions(~movable) if packed and values.is_contiguous() else None)

    @property
    def stored(self) -> list[Tensor]:
        """All stored values."""
        return [bits for small in self.small.values() for bits in small.frozen_bits] + self.copies

    def _freeze(self, parameter: nn.Parameter, movable: Tensor) -> None:
        values = local_part(parameter.detach())
        if not on_accelerator(values):
            self.partly_frozen.append((parameter, movable))
        elif values.numel() <= SMALL and values.element_size() in INTEGERS:
            self.small.setdefault((values.device, values.dtype), SmallTensors()).add(parameter, movable)
        else:
            # a mask in the memory order of the parameter lets kernels read both in one sweep
            movable = torch.empty_like(values, dtype=torch.bool).copy_(movable)
            self.partly_frozen.append((parameter, movable))

    def leave_autograd(self) -> None:
        """Take the parameters without a movable element out of autograd."""
        for parameter, _ in self.fully_frozen:
            if parameter.is_floating_point() or parameter.is_complex():
                # a closure of an optimizer computes gradients within its step
                self._hooks.append(on_gradient(parameter, _remove_gradient))
        self._remove_gradients()

    def join_autograd(self) -> None:
        """Undo `leave_autograd`."""
        for hook in self._hooks:
            hook.remove()
        self._hooks = []
        for parameter, required_gradient in self.fully_frozen:
            parameter.requires_grad_(required_gradient)

    def _remove_gradients(self) -> None:
        for parameter, _ in self.fully_frozen:
            parameter.requires_grad_(False)
            _remove_gradient(parameter)

    def mask_gradients(self, *_: object) -> None:
        """Zero the gradients of frozen parameters.

        The optimizer's step does this itself. Call it earlier if your loop clips the norm of the gradients.
        """
        self._remove_gradients()
        for small in self.small.values():
            small.mask_gradients()
        pairs = [(local_part(p.grad), movable) for p, movable in self.partly_frozen if p.grad is not None]
        if pairs:
            torch._foreach_mul_([gradient for gradient, _ in pairs], [movable for _, movable in pairs])

    @torch.no_grad()
    def restore(self, *_: object) -> None:
        """Restore the values of frozen parameters."""
        for small in self.small.values():
            small.restore()
        stored = zip(self.partly_frozen, self.positions, self.copies, strict=True)
        for (parameter, movable), positions, copy in stored:
            values: Tensor = local_part(parameter)
            if on_accelerator(values):
                torch.where(movable, values, copy, out=values)
            elif positions is not None and values.is_contiguous():
                values.view(-1).scatter_(0, positions, copy)
            else:
                values.masked_scatter_(~movable, copy)


@dataclass
class SmallTensors:
    """Small, partly frozen tensors of one type on one device: three kernels for all of them instead of two for each.

    Their bits are read as integers. A product with 0 or 1 and a sum with 0 are then exact, also for -0.0 and NaN.

    Args:
        parameters: The parameters.
        movable: For each parameter, 1 where it may move and 0 elsewhere.
        frozen_bits: For each parameter, the bits of the frozen values and 0 elsewhere.
    """

    parameters: list[nn.Parameter] = field(default_factory=list)
    movable: list[Tensor] = field(default_factory=list)
    frozen_bits: list[Tensor] = field(default_factory=list)

    def add(self, parameter: nn.Parameter, movable: Tensor) -> None:
        """Freeze the parameter where `movable` is false."""
        bits = _bits(local_part(parameter.detach()))
        self.parameters.append(parameter)
        self.movable.append(torch.empty_like(bits).copy_(movable))
        self.frozen_bits.append(bits * (1 - self.movable[-1]))

    def mask_gradients(self) -> None:
        """Zero the gradients of frozen parameters."""
        pairs = [
            (_bits(local_part(p.grad)), movable)
            for p, movable in zip(self.parameters, self.movable, strict=True)
            if p.grad is not None and local_part(p.grad).layout == torch.strided
        ]
        if pairs:
            torch._foreach_mul_([gradient for gradient, _ in pairs], [movable for _, movable in pairs])

    def restore(self) -> None:
        """Restore the values of frozen parameters."""
        values = [_bits(local_part(p.detach())) for p in self.parameters]
        torch._foreach_mul_(values, self.movable)
        torch._foreach_add_(values, self.frozen_bits)


def _remove_gradient(parameter: Tensor) -> None:
    parameter.grad = None


def _bits(values: Tensor) -> Tensor:
    return values.view(INTEGERS[values.element_size()])


def _positions(frozen: Tensor) -> Tensor:
    small = frozen.numel() < 2**31
    return frozen.reshape(-1).nonzero()[:, 0].to(torch.int32 if small else torch.int64)
