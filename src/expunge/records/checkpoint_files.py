"""Read the content of a checkpoint file, whatever its format, without running code in it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import safetensors

from ..errors import CheckpointError
from ..hub_cache import cache_advice
from .checkpoint_folders import weight_files
from .distributed import sharded_text
from .torch_reading import read_archive_metadata, read_torch_file


class FileContent(NamedTuple):
    """What a file holds: its format ("safetensors" or "pt"), its content, and the metadata outside the content."""

    format: str
    loaded: Any
    metadata: dict[str, str]


def read_file(file: Path) -> FileContent:
    """Read a safetensors or torch file, or a folder that `save_pretrained` wrote.

    Raises:
        CheckpointError: The file is missing, empty, broken, or reading it could run code.
    """
    if file.is_dir():
        return _read_folder(file)
    if text := sharded_text(file):
        raise CheckpointError(text)
    if not file.is_file():
        raise CheckpointError(f"{file} does not exist; give a checkpoint file.{cache_advice(file)}")
    with file.open("rb") as opened:
        start = opened.read(256)
    if not start:
        raise CheckpointError(f"{file} is empty; copy or download it again.")
    if start.startswith(b"version https://git-lfs"):
        raise CheckpointError(f"{file} is a Git LFS pointer, not the checkpoint itself; run `git lfs pull`.")
    # A safetensors file may have any name. After its 8-byte length comes JSON.
    if file.suffix == ".safetensors" or start[8:9] == b"{":
        return _read_safetensors(file)
    return FileContent("pt", read_torch_file(file), read_archive_metadata(file))


def _read_folder(folder: Path) -> FileContent:
    """The tensors of all shards of a folder."""
    contents = [read_file(file) for file in weight_files(folder)]
    if len(contents) == 1:
        return contents[0]
    if odd := [c for c in contents if not isinstance(c.loaded, Mapping)]:
        raise CheckpointError(
            f"a shard of {folder} holds a {type(odd[0].loaded).__name__}; copy the folder again."
        )
    merged = {name: tensor for content in contents for name, tensor in content.loaded.items()}
    if len(merged) < sum(len(c.loaded) for c in contents):
        raise CheckpointError(f"several shards of {folder} hold the same tensor; copy the folder again.")
    return FileContent(contents[0].format, merged, contents[0].metadata)


def _read_safetensors(file: Path) -> FileContent:
    try:
        with safetensors.safe_open(file, framework="pt") as opened:
            tensors = {k: opened.get_tensor(k) for k in list(opened.keys())}
            return FileContent("safetensors", tensors, dict(opened.metadata() or {}))
    except (safetensors.SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(
            f"{file} cannot be read as safetensors (broken or cut off): {error}; copy or download it again."
        ) from error
