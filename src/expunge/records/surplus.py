"""What a checkpoint file holds besides one model, and every model in it. A delivered file must hold nothing else."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from ..errors import CheckpointError, ModelError
from .checkpoint import Checkpoint, read_checkpoint
from .checkpoint_contents import counters_of, plain_names
from .checkpoint_reading import candidates
from .hashing import load_weights, state_hash
from .model_names import ModelPart, model_part, stored_name
from .tensor_memory import spare_bytes
from .torch_reading import METADATA_FILE, read_torch_file

# files of a torch archive that hold no tensor
ARCHIVE_FILES = (
    "data.pkl",
    "version",
    "byteorder",
    ".format_version",
    ".storage_alignment",
    ".data/serialization_id",
    METADATA_FILE,
)


def surplus(path: str | os.PathLike[str]) -> list[str]:
    """Return what a checkpoint file holds besides the model that `read_checkpoint` finds, one text each.

    These count: other entries with tensors or long values, bytes of storages that belong to no tensor of the model, and
    files of a torch archive that torch does not read.

    Raises:
        CheckpointError: The file is missing, broken or no checkpoint.

    Example:
        >>> surplus("old-style.pt")
        ['state_dict_ema (11 tensors)']
    """
    checkpoint = read_checkpoint(path)
    texts = checkpoint.dropped_data
    if checkpoint.format == "pt" and not texts:
        tensors = [*checkpoint.state.values(), *checkpoint.counters.values()]
        if spare := spare_bytes(tensors):
            texts.append(f"{spare:,} bytes of storages that belong to no tensor")
        texts += _unread_files(checkpoint, tensors)
    return texts


def _unread_files(checkpoint: Checkpoint, tensors: list[Tensor]) -> list[str]:
    """The files of a torch archive that belong to none of the tensors."""
    if not zipfile.is_zipfile(checkpoint.path):
        return []
    with zipfile.ZipFile(checkpoint.path) as archive:
        names = [name.partition("/")[2] for name in archive.namelist()]
    storages = [name for name in names if name.startswith("data/")]
    unknown = [name for name in names if name not in ARCHIVE_FILES and name not in storages]
    read = {t.untyped_storage()._cdata for t in tensors if t.layout == torch.strided}
    is_sparse = any(t.layout != torch.strided for t in tensors)
    unread = 0 if is_sparse else len(storages) - len(read)
    if unread > 0:
        unknown.append(f"{unread} storages")
    return [f"files of the archive that torch does not read: {', '.join(unknown)}"] if unknown else []


def exported_state(source: object, digest: str) -> Mapping[str, Tensor] | None:
    """Return the model in an exported file, by the names of the model, if it has this `state_hash`.

    A file may hold few values of tensors that are not of the model. None for a file with more, and for one that is no export.
    """
    part = _export(source)
    if part is None or not part.few_others:
        return None
    try:
        return part.state if state_hash(part.state) == digest else None
    except ModelError:
        return None


def values_beside(path: str | os.PathLike[str]) -> int:
    """Return the number of values in an exported file that are not of the model."""
    part = _export(path)
    return 0 if part is None else sum(t.numel() for t in part.others.values())


def check_divided(source: object) -> None:
    """Check that an exported file has the tensors of the model.

    Raises:
        ModelError: Its library divides them otherwise. The message names the file to verify.
    """
    if not isinstance(source, str | os.PathLike):
        return
    try:
        stored = stored_name(read_checkpoint(source))
    except CheckpointError:
        return
    if stored:
        raise ModelError(
            f"{source} was exported for a library that divides tensors otherwise than the model, as for adapters of peft and Mixtral; "
            f"verify models/{stored} of the project with the receipt beside it, from which this file was written."
        )


def _export(source: object) -> ModelPart | None:
    if not isinstance(source, str | os.PathLike):
        return None
    try:
        return model_part(read_checkpoint(source))
    except CheckpointError:
        return None


def state_with_hash(source: object, digest: str) -> Mapping[str, Tensor] | None:
    """Return the state of a model, state dict or file that has this `state_hash`; of a torch file, any state in it."""
    first: Mapping[str, Tensor] = load_weights(source)  # type: ignore[arg-type]
    if state_hash(first) == digest:
        return first
    if (exported := exported_state(source, digest)) is not None:
        return exported
    if not isinstance(source, str | os.PathLike) or Path(source).suffix == ".safetensors":
        return None
    for _, _, entries in candidates(read_torch_file(Path(source))):
        counters = counters_of(entries)
        state = plain_names({k: v for k, v in entries.items() if isinstance(v, Tensor) and k not in counters})
        try:
            if state_hash(state) == digest:
                return state
        except ModelError:
            # quantized or sparse tensors have no hash
            continue
    return None
