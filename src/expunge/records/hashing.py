"""A name for a model's weights: SHA-256 of its tensors, the same on every machine, device and file format.

The bytes hashed are, for each tensor in the order of its UTF-8 name: `name \\0 dtype \\0 shape \\0 values`,
the shape as `3,4` and the values row by row in little-endian order. A tensor's length follows from its dtype
and shape, so no two different state dictionaries give the same bytes. A pickle is never hashed: equal weights
pickle differently.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from ..errors import CheckpointError, ModelError, raise_all
from .checkpoint import PREFIXES, read_checkpoint

CHUNK = 1 << 24  # bytes converted at a time: a model is never copied whole


def state_hash(state: Mapping[str, Tensor]) -> str:
    """SHA-256 (64 hex digits) of the tensors of `state`, on any device and of any strides.

    Every bit counts: -0.0 and 0.0 differ, float32 and bfloat16 of the same values differ. Tied tensors count
    under each of their names. Memory: a slab of `CHUNK` bytes of one tensor, or one row where a row is
    larger. Tensors sharded over processes are gathered one by one, so every process must call this and gets
    the hash of the whole. Raises `ModelError` listing every entry that is not a dense tensor with values.
    """
    raise_all([p for name in state for p in _problem(name, state[name])], ModelError)
    digest = hashlib.sha256()
    for name in sorted(state, key=str.encode):
        tensor = state[name].detach()
        if hasattr(tensor, "full_tensor"):  # a DTensor, whose import costs every command half a second
            tensor = tensor.full_tensor()
        shape = ",".join(map(str, tensor.shape))
        digest.update(f"{name}\0{str(tensor.dtype).removeprefix('torch.')}\0{shape}\0".encode())
        for chunk in _chunks(tensor):
            digest.update(chunk)
    return digest.hexdigest()


def mask_hash(mask: Mapping[str, Tensor]) -> str:
    """SHA-256 of a saliency mask {parameter name: bool tensor}, as of a model."""
    return state_hash({name: m.bool() for name, m in mask.items()})


def model_hash(source: nn.Module | Mapping[str, Tensor] | str | os.PathLike[str]) -> str:
    """`state_hash` of what `load_weights` finds in `source`; raises as both do."""
    return state_hash(load_weights(source))


def load_weights(source: nn.Module | Mapping[str, Tensor] | str | os.PathLike[str]) -> Mapping[str, Tensor]:
    """A module's parameters and persistent buffers, a state dictionary as it is, or the one in a file.

    A file's tensors go by the plain names that the model has for them, wherever in the file they lie and
    whatever was put before their names, so that a file and the model loaded from it have one hash.
    `.safetensors` is read tensor by tensor as they are asked for; nothing in any file is executed. Raises
    `CheckpointError` as `checkpoint.read_checkpoint` does.
    """
    if isinstance(source, nn.Module):
        return source.state_dict()
    if isinstance(source, Mapping):
        return source
    path = Path(source)
    if path.suffix != ".safetensors" or not path.is_file():
        return read_checkpoint(path).state
    try:
        return _Lazy(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read as safetensors (broken, cut off): {error}.") from error


class _Lazy(Mapping[str, Tensor]):
    """The tensors of a safetensors file, each read when it is asked for and not kept."""

    def __init__(self, path: Path):
        self.file = safe_open(path, framework="pt")
        plain = {name: name for name in self.file.keys()}  # noqa: SIM118
        while prefix := next((p for p in PREFIXES if plain and all(k.startswith(p) for k in plain)), ""):
            plain = {k.removeprefix(prefix): name for k, name in plain.items()}
        self.names = plain

    def __getitem__(self, name: str) -> Tensor:
        return self.file.get_tensor(self.names[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)


def _problem(name: Any, value: Any) -> list[str]:
    if not isinstance(name, str) or "\0" in name or name.encode(errors="ignore").decode() != name:
        return [f"the entry {name!r} has no usable name: names are Unicode text without a zero byte."]
    if not isinstance(value, Tensor):
        return [f"`{name}` is a {type(value).__name__}: only tensors can be hashed. Leave extra state out."]
    if value.layout != torch.strided or value.is_quantized:
        kind = "quantized" if value.is_quantized else str(value.layout)
        return [f"`{name}` is {kind}: only dense tensors have one byte order. Use to_dense or dequantize."]
    if value.device.type == "meta":
        return [f"`{name}` is on the meta device and has no values: load the weights first."]
    return []


def _chunks(tensor: Tensor) -> Iterator[memoryview]:
    """The values of `tensor` row by row, in slabs of about `CHUNK` bytes, little-endian."""
    if tensor.numel() == 0:
        return
    flat = tensor.reshape(-1) if tensor.is_contiguous() else tensor  # others are cut along their first axis
    if flat.ndim == 0:
        flat = flat.reshape(1)
    rows = max(1, CHUNK * len(flat) // flat.nbytes)
    for slab in flat.split(rows):
        whole = slab.resolve_conj().resolve_neg().contiguous().cpu()
        part = torch.view_as_real(whole) if whole.is_complex() else whole
        yield _little_endian(part.reshape(-1).view(torch.uint8), part.element_size(), sys.byteorder)


def _little_endian(data: Tensor, size: int, order: str) -> memoryview:
    """The bytes (n * size,) of numbers of `size` bytes, least significant byte first."""
    if order == "big" and size > 1:
        data = data.reshape(-1, size).flip(1).reshape(-1)
    return data.numpy().data
