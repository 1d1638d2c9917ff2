"""Read torch files without running code in them."""

from __future__ import annotations

import json
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch

from ..errors import CheckpointError
from .foreign_objects import foreign_objects, needed_classes

# file in a torch archive that keeps the metadata of a plain state dict; torch does not read it
METADATA_FILE = "expunge.json"
# bytes; a split description with a million ids is smaller
LARGEST_METADATA = 1 << 26
# objects that a message names
SHOWN = 5


def read_torch_file(path: Path) -> Any:
    """Read a torch file that contains only tensors and plain values.

    Raises:
        CheckpointError: The file is broken, or reading it could run code or fill the memory.
    """
    _refuse_compressed(path)
    try:
        with warnings.catch_warnings():
            # torch warns of old pickle protocols.
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
    # torch raises many types of errors; `why_unreadable` tells them apart.
    except Exception as error:
        raise CheckpointError(why_unreadable(path, error)) from error


def _refuse_compressed(path: Path) -> None:
    """Raise `CheckpointError` for an archive with compressed entries: a small file could fill the memory."""
    try:
        with zipfile.ZipFile(path) as archive:
            compressed = [e for e in archive.infolist() if e.compress_type != zipfile.ZIP_STORED]
    # torch itself says what is wrong with a file that is no archive
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return
    if compressed:
        size = sum(e.file_size for e in compressed)
        raise CheckpointError(
            f"{path} is an archive with compressed entries of {size / 1e6:,.1f} MB, which torch.save never writes; it was not "
            "opened. Save the state dict again with torch.save, or as safetensors."
        )


def why_unreadable(path: Path, error: Exception) -> str:
    """One sentence on why torch cannot read a file."""
    text = str(error)
    is_pickle = path.open("rb").read(1) == b"\x80" or zipfile.is_zipfile(path)
    if is_pickle and any(word in text for word in ("weights_only", "Weights only", "Unsupported", "GLOBAL")):
        foreign, needed = foreign_objects(path), needed_classes(path)
        entries = ", ".join(f"{entry} ({name})" for entry, name in list(foreign.items())[:SHOWN])
        more = f" and {len(foreign) - SHOWN} more" if len(foreign) > SHOWN else ""
        allow = " ".join(f"--allow {name}" for name in needed)
        return (
            f"{path} contains more than tensors and plain values, so reading it could run code; it was not opened. "
            + (f"The entries are {entries}{more}. " if foreign else "")
            + "Save the state dict alone, or as safetensors"
            + (f"; or, if you trust the file: expunge convert {path} OUT {allow}." if needed else ".")
        )
    if not zipfile.is_zipfile(path) and path.open("rb").read(2) == b"PK":
        return f"{path} is cut off: its archive has no end; copy or download it again."
    detail = text.partition(". ")[0][:80] or "no detail"
    return (
        f"{path} is no torch checkpoint, or is broken ({type(error).__name__}: {detail}); "
        "give a file that torch.save or safetensors wrote."
    )


def read_archive_metadata(path: Path) -> dict[str, str]:
    """Read the metadata that `add_archive_metadata` added. Empty if there is none.

    Raises:
        CheckpointError: It is no JSON object of texts, or is larger than metadata can be.
    """
    if not zipfile.is_zipfile(path):
        return {}
    with zipfile.ZipFile(path) as archive:
        name = next((n for n in archive.namelist() if n.endswith(f"/{METADATA_FILE}")), None)
        if name is None:
            return {}
        damaged = CheckpointError(f"the metadata in {path} is damaged; write the checkpoint again.")
        if archive.getinfo(name).file_size > LARGEST_METADATA:
            raise damaged
        try:
            metadata = json.loads(archive.read(name))
        except (ValueError, RecursionError) as error:
            raise damaged from error
    if not isinstance(metadata, dict) or not all(isinstance(text, str) for text in metadata.values()):
        raise damaged
    return metadata
