"""Find parameters that share memory with another tensor without being it. A copy of a model has them as two tensors."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy


class _Place(NamedTuple):
    """The bytes [start, end) of a storage from the first to the last value of a tensor."""

    device: str
    storage: int
    start: int
    end: int
    name: str
    tensor: Tensor


def shared_memory(model: nn.Module) -> list[tuple[str, str]]:
    """Return the names of two tensors each that share values without being one `Parameter`.

    At least one of the two is a parameter with `requires_grad`. Views of one buffer that share no value are no such tensors.

    Args:
        model: The model.

    Example:
        >>> decoder.weight.data = encoder.weight.data  # doctest: +SKIP
        >>> shared_memory(model)  # doctest: +SKIP
        [('encoder.weight', 'decoder.weight')]
    """
    places = sorted(_places(model))
    return [
        (one.name, other.name)
        for k, one in enumerate(places)
        for other in _reached(places, k)
        if (one.tensor.requires_grad or other.tensor.requires_grad) and _share(one, other)
    ]


def _places(model: nn.Module) -> Iterator[_Place]:
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if (
            is_lazy(tensor)
            or tensor.layout != torch.strided
            or tensor.device.type == "meta"
            or not tensor.numel()
        ):
            continue
        try:
            storage = tensor.untyped_storage().data_ptr()
        # a tensor made of several others has no memory of its own
        except (NotImplementedError, RuntimeError):
            continue
        size = tensor.element_size()
        last = sum((n - 1) * step for n, step in zip(tensor.shape, tensor.stride(), strict=True))
        start = int(tensor.storage_offset()) * size
        yield _Place(str(tensor.device), storage, start, start + (last + 1) * size, name, tensor)


def _reached(places: list[_Place], k: int) -> Iterator[_Place]:
    """The places after place `k` that begin before its end."""
    one = places[k]
    for at in range(k + 1, len(places)):
        other = places[at]
        if other[:2] != one[:2] or other.start >= one.end:
            return
        yield other


def _share(one: _Place, other: _Place) -> bool:
    """Whether a byte belongs to both: columns of one matrix lie between each other and share none."""
    if one.tensor.is_contiguous() and other.tensor.is_contiguous():
        return True
    first, end = min(one.start, other.start), max(one.end, other.end)
    used = [torch.zeros(end - first, dtype=torch.bool) for _ in range(2)]
    for marks, place in zip(used, (one, other), strict=True):
        size = place.tensor.element_size()
        steps = [step * size for step in place.tensor.stride()]
        for byte in range(size):
            marks.as_strided(place.tensor.shape, steps, place.start - first + byte).fill_(True)
    return bool((used[0] & used[1]).any())
