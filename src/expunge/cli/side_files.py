"""Whose files lie beside a checkpoint: those of another one with the same stem must not be replaced."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from ..errors import ExpungeError


def belong_to(out: Path, files: Iterable[Path]) -> bool:
    """Whether record or receipt among the files name the model that is in the checkpoint `out`.

    A receipt states the hash of the tensors in the file, and a record that of the tensors in the model.

    Args:
        out: A checkpoint, which may not exist.
        files: JSON files beside it.
    """
    if not out.exists():
        return False
    stated = {value for file in files for value in _stated(file)}
    if not stated:
        return False
    from ..records.hashing import model_hash

    try:
        return model_hash(out) in stated
    # a broken file is replaced by the run
    except ExpungeError:
        return False


def _stated(file: Path) -> list[str]:
    """The hashes of the model that a record or receipt is about."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        parts = {"hash_after": content.get("model"), "model_after": content.get("statement")}
        return [
            part[name]
            for name, part in parts.items()
            if isinstance(part, dict) and isinstance(part.get(name), str)
        ]
    except (OSError, ValueError, AttributeError, RecursionError):
        return []
