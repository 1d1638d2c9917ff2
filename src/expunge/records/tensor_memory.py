"""The memory of tensors that are written to a file.

torch.save writes the whole storage of a tensor. A small view of a large old storage would carry its other bytes along.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor


def own_memory(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return contiguous CPU tensors whose storages hold their values and nothing else.

    Tensors that are one and the same, such as tied parameters, stay so. Attributes and Python subclasses are removed.
    """
    copies: dict[tuple[object, ...], Tensor] = {}
    return {name: _own(tensor, copies) for name, tensor in tensors.items()}


def _own(tensor: Tensor, copies: dict[tuple[object, ...], Tensor]) -> Tensor:
    plain = tensor.detach()
    # a subclass made of several tensors, such as a DTensor, has no values of its own
    if type(plain) is not Tensor and not hasattr(plain, "__tensor_flatten__"):
        plain = plain.as_subclass(Tensor)
    plain = plain.cpu()
    if plain.layout != torch.strided:
        return plain
    plain = plain.contiguous()
    try:
        storage = plain.untyped_storage()
    except (NotImplementedError, RuntimeError):
        return plain
    if storage.nbytes() == plain.nbytes:
        return plain
    place = (storage.data_ptr(), plain.storage_offset(), plain.shape, plain.dtype)
    if place not in copies:
        copies[place] = plain.clone(memory_format=torch.contiguous_format)
    return copies[place]


def unshared(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copy tensors that share memory with another one. safetensors refuses tied parameters and views of one buffer."""
    storages: set[int] = set()
    copies = {}
    for name, tensor in tensors.items():
        storage = tensor.untyped_storage().data_ptr()
        copies[name] = tensor.clone() if storage in storages else tensor
        storages.add(storage)
    return copies


def without_repeats(tensors: Mapping[str, Tensor], repeats: Mapping[str, str]) -> dict[str, Tensor]:
    """Leave out tensors that equal another one which stays.

    Args:
        tensors: {name: tensor}.
        repeats: {name: name of the tensor that it repeats}. Where the values differ, both stay.
    """
    gone = {
        name
        for name, kept in repeats.items()
        if name in tensors and kept in tensors and torch.equal(tensors[name], tensors[kept])
    }
    return {name: tensor for name, tensor in tensors.items() if name not in gone}


def same_memory(tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """Return {name: name of an earlier tensor that is the same one}, such as tied parameters."""
    first: dict[tuple[object, ...], str] = {}
    repeats = {}
    for name, tensor in tensors.items():
        if tensor.layout == torch.strided and tensor.numel():
            kept = first.setdefault((tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype), name)
            if kept != name:
                repeats[name] = kept
    return repeats


def spare_bytes(tensors: Iterable[Tensor]) -> int:
    """Return how many bytes the storages of strided tensors hold that belong to none of the tensors."""
    sizes: dict[int, int] = {}
    ranges: dict[int, list[tuple[int, int]]] = {}
    for tensor in tensors:
        if tensor.layout != torch.strided:
            continue
        storage, start = tensor.untyped_storage(), int(tensor.storage_offset()) * tensor.element_size()
        sizes[storage._cdata] = storage.nbytes()
        # where a view leaves gaps, at most as many bytes as it has values are counted
        ranges.setdefault(storage._cdata, []).append((start, start + int(tensor.nbytes)))
    return sum(size - _covered(ranges[place]) for place, size in sizes.items())


def _covered(ranges: list[tuple[int, int]]) -> int:
    """Bytes in the union of ranges [start, end)."""
    total, reached = 0, 0
    for start, end in sorted(ranges):
        total += max(0, end - max(start, reached))
        reached = max(reached, end)
    return total
