"""The files of parameters in a part of a pipeline folder: which of them diffusers reads, and the tensors in them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from ..errors import CheckpointError

# `diffusion_pytorch_model.fp16-00001-of-00002.safetensors`; diffusers once wrote the variant behind the shard
_NAME = re.compile(
    r"(?:diffusion_pytorch_model|pytorch_model|model)(?:\.(?P<variant>.+?))?"
    r"(?:-(?P<shard>\d{5})-of-(?P<count>\d{5})(?:\.(?P<late>.+))?)?\.(?P<format>safetensors|bin)"
)


_TYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64,
    "I32": torch.int32,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


def stored(part: Path, variant: str | None = None) -> list[Path]:
    """Return the files that diffusers reads for a part, in the order of their shards. Empty if there are none.

    Args:
        part: Folder of the part.
        variant: Variant of the files, for example "fp16". None for files without one.
    """
    groups = _groups(part)
    return groups.get(("safetensors", variant)) or groups.get(("bin", variant)) or []


def variants(part: Path) -> set[str | None]:
    """Return the variants of which a part has all files. None stands for files without a variant."""
    return {variant for _, variant in _groups(part)}


def _groups(part: Path) -> dict[tuple[str, str | None], list[Path]]:
    groups: dict[tuple[str, str | None], list[tuple[int, int, Path]]] = {}
    for path in sorted(part.iterdir()) if part.is_dir() else ():
        if (match := _NAME.fullmatch(path.name)) is not None:
            key = match["format"], match["variant"] or match["late"]
            groups.setdefault(key, []).append((int(match["shard"] or 0), int(match["count"] or 0), path))
    return {key: paths for key, found in groups.items() if (paths := _complete(found))}


def _complete(found: list[tuple[int, int, Path]]) -> list[Path]:
    """Return the one file without shards, or all shards. Empty if a shard is missing."""
    if whole := [path for shard, _, path in found if not shard]:
        return whole[:1]
    count = found[0][1]
    return (
        [path for _, _, path in found] if [shard for shard, _, _ in found] == [*range(1, count + 1)] else []
    )


def dtypes(files: Sequence[Path]) -> dict[str, torch.dtype]:
    """Return the type of every tensor in the files, by name. No value of a tensor is read.

    Raises:
        CheckpointError: A file cannot be read.
    """
    types: dict[str, torch.dtype] = {}
    for path in files:
        try:
            types.update(_dtypes(path))
        # a broken file raises errors of safetensors, of torch or of the system
        except Exception as error:
            raise CheckpointError(
                f"{path} cannot be read: {type(error).__name__}: {error}; copy or download the file again."
            ) from error
    return types


def _dtypes(path: Path) -> Iterator[tuple[str, torch.dtype]]:
    if path.suffix == ".bin":
        state = torch.load(path, map_location="meta", weights_only=True, mmap=True)
        yield from ((name, tensor.dtype) for name, tensor in state.items())
        return
    with safe_open(path, "pt") as file:
        for name in file.keys():  # noqa: SIM118
            yield name, _TYPES[file.get_slice(name).get_dtype()]


def write_like(source: Path, target: Path, state: Mapping[str, Tensor]) -> None:
    """Write a file with the names, types and metadata of `source` and the values of `state`."""
    if source.suffix == ".bin":
        types = dict(_dtypes(source))
        torch.save({name: state[name].detach().to("cpu", types[name], copy=True) for name in types}, target)
        return
    with safe_open(source, "pt") as file:
        metadata = file.metadata()
    types = dict(_dtypes(source))
    save_file({n: state[n].detach().to("cpu", t).contiguous() for n, t in types.items()}, target, metadata)
