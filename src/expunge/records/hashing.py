"""A name for a model: the SHA-256 of its tensors, equal on every machine, device and file format.

For each tensor, in the order of its UTF-8 name, these bytes are hashed: `name \\0 dtype \\0 shape \\0 values`. The shape
is written as `3,4`, and the values row by row in little-endian order. Dtype and shape give the length of the values, so no
two different state dicts have the same bytes. A pickle is never hashed: equal tensors may be pickled differently.
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
from .checkpoint import read_checkpoint
from .checkpoint_contents import COUNTERS, common_prefix, counters_of

# bytes that are converted at a time: a model is never copied whole
CHUNK = 1 << 24


def state_hash(state: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 (64 hex digits) of the tensors of a state dict.

    Every bit counts: 0.0 and -0.0 differ, and so do float32 and bfloat16 tensors of the same values. Device and strides do
    not count. Tied tensors count under each of their names. The memory needed is `CHUNK` bytes of one tensor, or one row
    if a row is larger. Tensors that are sharded over processes are gathered one by one. Every process must then call this
    function, and each gets the hash of the whole.

    Args:
        state: {name: tensor}.

    Raises:
        ModelError: Lists every entry that is not a dense tensor with values.

    Example:
        >>> state_hash(model.state_dict())[:8]
        '3f0c9a1b'
    """
    raise_all([p for name in state for p in _problems(name, state[name])], ModelError)
    digest = hashlib.sha256()
    for name in sorted(state, key=str.encode):
        tensor = state[name].detach()
        # A DTensor. Importing its class would cost every command half a second.
        if hasattr(tensor, "full_tensor"):
            tensor = tensor.full_tensor()
        shape = ",".join(map(str, tensor.shape))
        digest.update(f"{name}\0{str(tensor.dtype).removeprefix('torch.')}\0{shape}\0".encode())
        for chunk in _chunks(tensor):
            digest.update(chunk)
    return digest.hexdigest()


def mask_hash(mask: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of a saliency mask {parameter name: bool tensor}, computed as `state_hash` does."""
    return state_hash({name: m.bool() for name, m in mask.items()})


def model_hash(source: nn.Module | Mapping[str, Tensor] | str | os.PathLike[str]) -> str:
    """Return the `state_hash` of a model, a state dict or a checkpoint file.

    Raises:
        CheckpointError: The file is missing, broken or unsafe.
        ModelError: An entry is not a dense tensor with values.
    """
    return state_hash(load_weights(source))


def load_weights(source: nn.Module | Mapping[str, Tensor] | str | os.PathLike[str]) -> Mapping[str, Tensor]:
    """Return the parameters and persistent buffers of a model, a state dict or a checkpoint file.

    The tensors of a file have the names of the model, without nesting or prefixes. A file and the model that is loaded from
    it therefore have the same hash. A safetensors file is read tensor by tensor, when a tensor is asked for. No code in a
    file runs.

    Raises:
        CheckpointError: The file is missing, broken or unsafe.
    """
    if isinstance(source, nn.Module):
        return source.state_dict()
    if isinstance(source, Mapping):
        return source
    path = Path(source)
    if path.suffix != ".safetensors" or not path.is_file():
        return read_checkpoint(path).state
    try:
        return _LazyTensors(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(
            f"{path} cannot be read as safetensors (broken or cut off): {error}; copy or download it again."
        ) from error


class _LazyTensors(Mapping[str, Tensor]):
    """The tensors of a safetensors file. Each is read when it is asked for, and not kept."""

    def __init__(self, path: Path):
        self.file = safe_open(path, framework="pt")
        names = list(self.file.keys())
        counters = counters_of({k: self.file.get_tensor(k) if k in COUNTERS else None for k in names})
        names = [k for k in names if k not in counters]
        prefix = common_prefix(names)
        # {name without prefixes: name in the file}
        self.names = {k.removeprefix(prefix): k for k in names}

    def __getitem__(self, name: str) -> Tensor:
        return self.file.get_tensor(self.names[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)


def _problems(name: Any, value: Any) -> list[str]:
    """Why an entry cannot be hashed: one sentence or none."""
    if not isinstance(name, str) or "\0" in name or name.encode(errors="ignore").decode() != name:
        return [
            f"the entry {name!r} cannot be hashed: its name must be Unicode text without a zero byte. Rename it."
        ]
    if not isinstance(value, Tensor):
        return [f"`{name}` is a {type(value).__name__}: only tensors can be hashed. Leave it out."]
    if value.layout != torch.strided or value.is_quantized:
        layout = "quantized" if value.is_quantized else str(value.layout)
        return [f"`{name}` is {layout}: only dense tensors can be hashed. Use to_dense or dequantize."]
    if value.device.type == "meta":
        return [f"`{name}` is on the meta device and has no values. Load the model first."]
    return []


def _chunks(tensor: Tensor) -> Iterator[memoryview]:
    """Yield the values row by row, about `CHUNK` bytes at a time, little-endian."""
    if tensor.numel() == 0:
        return
    # A tensor that is not contiguous is divided along its first axis.
    flat = tensor.reshape(-1) if tensor.is_contiguous() else tensor
    if flat.ndim == 0:
        flat = flat.reshape(1)
    rows = max(1, CHUNK * len(flat) // flat.nbytes)
    for part in flat.split(rows):
        values = part.resolve_conj().resolve_neg().contiguous().cpu()
        numbers = torch.view_as_real(values) if values.is_complex() else values
        yield _little_endian(numbers.reshape(-1).view(torch.uint8), numbers.element_size(), sys.byteorder)


def _little_endian(data: Tensor, size: int, order: str) -> memoryview:
    """The bytes (n * size,) of n numbers of `size` bytes, least significant byte first."""
    if order == "big" and size > 1:
        data = data.reshape(-1, size).flip(1).reshape(-1)
    return data.numpy().data
