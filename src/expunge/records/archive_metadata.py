"""Metadata in the archive of a torch file, where torch does not look."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from pathlib import Path

from .torch_reading import METADATA_FILE


def add_archive_metadata(path: Path, metadata: Mapping[str, str]) -> None:
    """Add metadata to the archive of a torch file. What torch reads from it does not change."""
    with zipfile.ZipFile(path, "a") as archive:
        folder = archive.namelist()[0].partition("/")[0]
        archive.writestr(f"{folder}/{METADATA_FILE}", json.dumps(metadata))
