"""Whether values are finite, for every type of numbers."""

from __future__ import annotations

from torch import Tensor


def all_finite(tensor: Tensor, allowed: float | None = None) -> Tensor:
    """Return whether all values are finite (bool tensor of shape ()), also for types of 8 bits, where torch has no `isfinite`.

    Args:
        tensor: The values.
        allowed: One value that counts as finite, such as minus infinity in attention masks.
    """
    narrow = tensor.is_floating_point() and tensor.itemsize == 1
    values = tensor.detach().float() if narrow else tensor.detach()
    finite = values.isfinite()
    return (finite if allowed is None else finite | (values == allowed)).all()
