"""Folders that `save_pretrained` wrote: parameters in one file or in shards, beside a configuration."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import safetensors.torch
from torch import Tensor

from ..errors import CheckpointError

# files with parameters, in the order in which transformers looks for them, and those of an adapter of peft
WEIGHTS = ("model.safetensors", "pytorch_model.bin", "adapter_model.safetensors", "adapter_model.bin")
INDEX = ".index.json"
# endings of files that may hold tensors
DATA_SUFFIXES = (
    ".safetensors",
    ".bin",
    ".pt",
    ".pth",
    ".ckpt",
    ".h5",
    ".msgpack",
    ".onnx",
    ".gguf",
    ".npz",
    ".pkl",
)
# bytes of the largest file that an output folder gets, such as a tokenizer
LARGEST_COPY = 1 << 26


def weight_files(folder: Path) -> list[Path]:
    """Return the files with the parameters of a folder, one or several shards.

    Raises:
        CheckpointError: There are none, the index is broken, or a shard is missing.
    """
    for name in WEIGHTS:
        if (folder / name).is_file():
            return [folder / name]
        if (folder / f"{name}{INDEX}").is_file():
            return sorted({folder / shard for shard in weight_map(folder / f"{name}{INDEX}").values()})
    raise CheckpointError(
        f"{folder} is a folder without {', '.join(WEIGHTS[:-1])} or {WEIGHTS[-1]}; "
        "give a checkpoint file, or a folder that save_pretrained wrote."
    )


def weight_map(index: Path) -> dict[str, str]:
    """Return {tensor: file name} of an index file.

    Raises:
        CheckpointError: The file is no index, names files outside its folder, or a shard is missing.
    """
    try:
        names = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        shards = {str(shard) for shard in names.values()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError(
            f"{index} is no index of shards ({type(error).__name__}); copy the folder again."
        ) from error
    if outside := sorted(s for s in shards if Path(s).name != s):
        raise CheckpointError(
            f"{index} names {outside[0]}, which is outside its folder; use an index of plain file names."
        )
    if missing := sorted(s for s in shards if not (index.parent / s).is_file()):
        raise CheckpointError(
            f"{index} names {len(missing)} missing shards (first: {missing[0]}); copy the folder again."
        )
    return {str(k): str(v) for k, v in names.items()}


def write_folder(part: Path, like: Path, tensors: Mapping[str, Tensor], texts: Mapping[str, str]) -> None:
    """Fill the new folder `part` with the shards of the folder `like`, and its small files such as the configuration."""
    whole = WEIGHTS[2] if weight_files(like)[0].name.startswith("adapter") else WEIGHTS[0]
    index = like / f"{WEIGHTS[0]}{INDEX}"
    shard_of = weight_map(index) if index.is_file() else {}
    shards: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        shards.setdefault(shard_of.get(name, min(shard_of.values(), default=whole)), {})[name] = tensor
    for shard, content in shards.items():
        safetensors.torch.save_file(content, part / shard, {"format": "pt", **texts})
    for file in sorted(like.iterdir()):
        if _is_small(file):
            shutil.copyfile(file, part / file.name)
    if shard_of:
        sizes = {"total_size": sum(t.nbytes for t in tensors.values())}
        names = {name: shard for shard, content in shards.items() for name in content}
        text = json.dumps({"metadata": sizes, "weight_map": dict(sorted(names.items()))}, indent=2)
        (part / index.name).write_text(text + "\n", encoding="utf-8")


def _is_small(file: Path) -> bool:
    """Whether an output folder gets a copy: no index, no file that may hold tensors or training state."""
    return (
        file.is_file()
        and not file.name.startswith(
            (".", "training_args", "trainer_state", "optimizer", "scheduler", "rng_state")
        )
        and not file.name.endswith((INDEX, *DATA_SUFFIXES))
        and file.stat().st_size <= LARGEST_COPY
    )
