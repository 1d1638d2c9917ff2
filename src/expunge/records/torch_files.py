"""Torch files that are written: the state of a run, and metadata in an archive."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ..errors import CheckpointError
from .atomic_files import atomic
from .torch_reading import METADATA_FILE, why_unreadable


def add_archive_metadata(path: Path, metadata: Mapping[str, str]) -> None:
    """Add metadata to the archive of a torch file. What torch reads from it does not change."""
    with zipfile.ZipFile(path, "a") as archive:
        folder = archive.namelist()[0].partition("/")[0]
        archive.writestr(f"{folder}/{METADATA_FILE}", json.dumps(metadata))


def save_state(path: Path, state: dict[str, Any]) -> None:
    """Write the state of an interrupted run (tensors and plain values), atomically."""
    with atomic(path) as part:
        torch.save(state, part)


def load_state(path: Path) -> dict[str, Any]:
    """Read what `save_state` wrote, without running code.

    Raises:
        CheckpointError: The file is broken, or reading it could run code.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise CheckpointError(f"{why_unreadable(path, error)} Remove it to start the run anew.") from error
