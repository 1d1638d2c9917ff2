"""Whether values are finite, for every type of numbers."""

from __future__ import annotations

import torch
from torch import Tensor

# rows that are looked at together
ROWS = 1024


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


def rows_not_finite(tensor: Tensor) -> list[int]:
    """Return the positions of rows (along the first axis) with NaN or infinity. Whole numbers have none."""
    if not tensor.is_floating_point() and not tensor.is_complex():
        return []
    # one number tells that all is well, without a second tensor of this size
    wide = torch.promote_types(tensor.dtype, torch.float32)
    if tensor.layout == torch.strided and bool(tensor.sum(dtype=wide).isfinite()):
        return []
    broken = []
    for start in range(0, len(tensor), ROWS):
        rows = tensor[start : start + ROWS]
        finite = rows.isfinite().reshape(len(rows), -1).all(1)
        broken += [start + k for k in (~finite).nonzero()[:, 0].tolist()]
    return broken
