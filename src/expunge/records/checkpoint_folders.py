"""Folders that `save_pretrained` wrote: parameters in one file or in shards, beside a configuration."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from ..errors import CheckpointError
from ..hub_cache import cache_advice
from .distributed import sharded_text
from .file_names import CARDS, CONFIGS, PREPARATION

# files with parameters, in the order in which transformers looks for them, and those of an adapter of peft
WEIGHTS = ("model.safetensors", "pytorch_model.bin", "adapter_model.safetensors", "adapter_model.bin")
INDEX = ".index.json"
# the files that an output folder gets besides the parameters
COPIED = CONFIGS | PREPARATION | CARDS
# entries of a configuration with the type of the parameters
DTYPE_ENTRIES = ("dtype", "torch_dtype")


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
    if text := sharded_text(folder):
        raise CheckpointError(text)
    raise CheckpointError(
        f"{folder} is a folder without {', '.join(WEIGHTS[:-1])} or {WEIGHTS[-1]}; "
        f"give a checkpoint file, or a folder that save_pretrained wrote.{cache_advice(folder)}"
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
    """Fill the new folder `part` with the shards of the folder `like`, its configuration and the files of its tokenizer."""
    whole = WEIGHTS[2] if weight_files(like)[0].name.startswith("adapter") else WEIGHTS[0]
    index = like / f"{WEIGHTS[0]}{INDEX}"
    shard_of = weight_map(index) if index.is_file() else {}
    shards: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        shards.setdefault(shard_of.get(name, min(shard_of.values(), default=whole)), {})[name] = tensor
    for shard, content in shards.items():
        safetensors.torch.save_file(content, part / shard, {"format": "pt", **texts})
    dtypes: Counter[str] = Counter()
    for tensor in tensors.values():
        if tensor.is_floating_point():
            dtypes[str(tensor.dtype).removeprefix("torch.")] += tensor.numel()
    for file in sorted(like.iterdir()):
        if file.is_file() and file.name in COPIED:
            _copy(file, part / file.name, dtypes)
    if shard_of:
        sizes = {"total_size": sum(t.nbytes for t in tensors.values())}
        names = {name: shard for shard, content in shards.items() for name in content}
        text = json.dumps({"metadata": sizes, "weight_map": dict(sorted(names.items()))}, indent=2)
        (part / index.name).write_text(text + "\n", encoding="utf-8")


def files_left_out(folder: Path) -> list[str]:
    """Return the names of the files and folders in a folder that an output does not get, without those of the parameters.

    Only configurations, the files that tokenizers and processors write, the card and the licence are copied. Any other file may hold
    training data, a secret or a state of the training.
    """
    parameters = {name for w in WEIGHTS for name in (w, f"{w}{INDEX}")} | {
        file.name for file in weight_files(folder)
    }
    return [
        f"{file.name}/" if file.is_dir() else file.name
        for file in sorted(folder.iterdir())
        if file.name not in COPIED and file.name not in parameters and not file.name.startswith(".")
    ]


def _copy(file: Path, place: Path, dtypes: Counter[str]) -> None:
    """Copy a file of the folder. In `config.json`, the type of the parameters becomes that of the output."""
    if file.name == "config.json":
        with suppress(ValueError, RecursionError):
            config = json.loads(file.read_text(encoding="utf-8"))
            if _set_dtype(config, dtypes):
                place.write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
                return
    shutil.copyfile(file, place)


def _set_dtype(config: Any, dtypes: Counter[str]) -> bool:
    """Replace every type of a configuration that no tensor has, since transformers converts to it. Returns whether there was one."""
    if not isinstance(config, dict) or not dtypes:
        return False
    changed = False
    for key, value in config.items():
        if key in DTYPE_ENTRIES and isinstance(value, str) and value not in dtypes and hasattr(torch, value):
            config[key], changed = dtypes.most_common(1)[0][0], True
        changed |= _set_dtype(value, dtypes)
    return changed
