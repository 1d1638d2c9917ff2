"""The torch file that keeps the state of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from ..errors import CheckpointError
from .atomic_files import atomic
from .torch_reading import why_unreadable


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
