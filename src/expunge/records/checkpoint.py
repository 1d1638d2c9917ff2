"""Checkpoints: safetensors files, or torch files that are read without running code.

An output has the format, the names and the other entries of its input. It is written whole or not at all.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from ..errors import CheckpointError
from .atomic_files import atomic
from .torch_files import add_archive_metadata, is_state_dict, read_archive_metadata, read_torch_file

# entries of a torch file that may hold the state dict; the first that does is used
STATE_ENTRIES = ("state_dict", "model_state_dict", "model", "net", "weights", "params")
# prefixes of names that DataParallel, DistributedDataParallel and torch.compile add
PREFIXES = ("module.", "_orig_mod.")
# entries whose names begin so remember the training data, like the parameters
TRAINING_STATE = ("optimizer", "optim", "ema", "momentum")
# entry of a torch file that holds the metadata
METADATA_ENTRY = "expunge"
# entries that a message shows
SHOWN = 8


@dataclass
class Checkpoint:
    """A checkpoint in memory, with what is needed to write another one like it.

    Args:
        state: The tensors by their plain names, without `prefix`.
        path: The file.
        format: "safetensors" or "pt".
        metadata: Texts that Expunge stored with the tensors: what the model was trained on, and how.
        nest: The entry of a torch file that held the state dict. None if the file is a state dict.
        prefix: What stood before every name.
        rest: The other entries of a torch file. An output keeps them.
        notices: Sentences that the user should read.
    """

    state: dict[str, Tensor]
    path: Path
    format: str
    metadata: dict[str, str] = field(default_factory=dict)
    nest: str | None = None
    prefix: str = ""
    rest: dict[str, Any] = field(default_factory=dict)
    notices: list[str] = field(default_factory=list)


def read_checkpoint(path: str | os.PathLike[str]) -> Checkpoint:
    """Read a checkpoint without running code in it.

    Args:
        path: A safetensors file, or a torch file with a state dict or a dict that contains one.

    Raises:
        CheckpointError: The file is missing, broken or no checkpoint, or reading it could run code.

    Example:
        >>> checkpoint = read_checkpoint("model.safetensors")
        >>> load_into(model, checkpoint)
    """
    file = Path(path)
    if not file.is_file():
        problem = "is a folder" if file.is_dir() else "does not exist"
        raise CheckpointError(f"{file} {problem}; give a checkpoint file.")
    with file.open("rb") as opened:
        start = opened.read(256)
    if not start:
        raise CheckpointError(f"{file} is empty; copy or download it again.")
    if start.startswith(b"version https://git-lfs"):
        raise CheckpointError(f"{file} is a Git LFS pointer, not the checkpoint itself; run `git lfs pull`.")
    # A safetensors file may have any name. After its 8-byte length comes JSON.
    is_safetensors = file.suffix == ".safetensors" or start[8:9] == b"{"
    checkpoint = _read_safetensors(file) if is_safetensors else _read_torch(file)
    _remove_prefixes(checkpoint)
    return checkpoint


def _read_safetensors(file: Path) -> Checkpoint:
    try:
        with safetensors.safe_open(file, framework="pt") as opened:
            state = {k: opened.get_tensor(k) for k in list(opened.keys())}
            metadata = dict(opened.metadata() or {})
    except (safetensors.SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(
            f"{file} cannot be read as safetensors (broken or cut off): {error}; copy or download it again."
        ) from error
    return Checkpoint(state, file, "safetensors", metadata)


def _read_torch(file: Path) -> Checkpoint:
    loaded = read_torch_file(file)
    nest = _find_state_entry(loaded)
    state = loaded if nest is None else loaded[nest]
    if not is_state_dict(state):
        content = f"a {type(loaded).__name__}"
        if isinstance(loaded, Mapping):
            content = f"a dict with the entries {sorted(map(str, loaded))[:SHOWN]}"
        raise CheckpointError(
            f"{file} contains {content}, no state dict of tensors; save model.state_dict()."
        )
    checkpoint = Checkpoint({k: v for k, v in state.items() if isinstance(v, Tensor)}, file, "pt", nest=nest)
    if others := [k for k in state if k not in checkpoint.state and k != "_metadata"]:
        checkpoint.notices.append(
            f"the entries {others[:SHOWN]} in the state dict of {file.name} are no tensors; an output does not have them."
        )
    if nest is None:
        checkpoint.metadata = read_archive_metadata(file)
        return checkpoint
    checkpoint.metadata = dict(loaded.get(METADATA_ENTRY) or {})
    dropped = [k for k in loaded if str(k).lower().startswith(TRAINING_STATE)]
    checkpoint.rest = {k: v for k, v in loaded.items() if k not in (nest, METADATA_ENTRY, *dropped)}
    if dropped:
        checkpoint.notices.append(
            f"an output does not have the entries {dropped} of {file.name}: they remember the training data."
        )
    return checkpoint


def _find_state_entry(loaded: Any) -> str | None:
    """The entry of a dict that is a state dict. None if `loaded` is a state dict itself, or contains none."""
    if not isinstance(loaded, Mapping) or is_state_dict(loaded):
        return None
    usual = [k for k in STATE_ENTRIES if is_state_dict(loaded.get(k))]
    return next(iter(usual or [k for k, v in loaded.items() if is_state_dict(v)]), None)


def _remove_prefixes(checkpoint: Checkpoint) -> None:
    """Remove the prefixes that all names have."""
    while prefix := next(
        (p for p in PREFIXES if checkpoint.state and all(k.startswith(p) for k in checkpoint.state)), None
    ):
        checkpoint.state = {k.removeprefix(prefix): v for k, v in checkpoint.state.items()}
        checkpoint.prefix += prefix
    if checkpoint.prefix:
        checkpoint.notices.append(
            f"the names in {checkpoint.path.name} begin with '{checkpoint.prefix}'; they are loaded without it, and an output has "
            "it again."
        )


def write_checkpoint(
    path: str | os.PathLike[str],
    state: Mapping[str, Tensor],
    *,
    like: Checkpoint | None = None,
    metadata: Mapping[str, str] | None = None,
) -> Path:
    """Write a state dict atomically, in the form of an input checkpoint.

    A torch file that was a plain state dict stays one: its metadata goes into the archive, where torch does not look.
    Any other torch file has the metadata as its entry "expunge".

    Args:
        path: The output. The suffix `.safetensors` gives safetensors. If output and input have the same suffix, the format
            of the input is kept. Otherwise a torch file is written.
        state: The tensors, by the names of the model.
        like: The input checkpoint. The output has its prefix, nesting, other entries and metadata.
        metadata: Texts to store, in addition to those of `like`.

    Returns:
        The output path.

    Raises:
        CheckpointError: The output is the file that `like` was read from.
        ExpungeError: Nothing can be written there.

    Example:
        >>> write_checkpoint("unlearned.safetensors", model.state_dict(), like=checkpoint)
    """
    file = Path(path)
    if like is not None and file.exists() and like.path.exists() and file.samefile(like.path):
        raise CheckpointError(f"{file} is the input, which is never overwritten; give another output file.")
    prefix = like.prefix if like is not None else ""
    tensors = {prefix + k: v.detach().cpu().contiguous() for k, v in state.items()}
    texts = {**(like.metadata if like is not None else {}), **dict(metadata or {})}
    keeps_format = like is not None and like.format == "safetensors" and file.suffix == like.path.suffix
    with atomic(file) as part:
        if file.suffix == ".safetensors" or keeps_format:
            # transformers requires the entry "format".
            safetensors.torch.save_file(_unshared(tensors), part, {"format": "pt", **texts})
        else:
            _write_torch(part, tensors, texts, like)
    return file


def _write_torch(
    file: Path, tensors: dict[str, Tensor], texts: dict[str, str], like: Checkpoint | None
) -> None:
    is_plain = like is not None and like.format == "pt" and like.nest is None
    if is_plain or not texts:
        torch.save(tensors, file)
        if texts:
            add_archive_metadata(file, texts)
        return
    nest = like.nest if like is not None and like.nest is not None else "state_dict"
    rest = like.rest if like is not None else {}
    torch.save({**rest, nest: tensors, METADATA_ENTRY: texts}, file)


def _unshared(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Copy tensors that share memory with another one. safetensors refuses tied parameters and views of one buffer."""
    storages: set[int] = set()
    unshared = {}
    for name, tensor in tensors.items():
        storage = tensor.untyped_storage().data_ptr()
        unshared[name] = tensor.clone() if storage in storages else tensor
        storages.add(storage)
    return unshared
