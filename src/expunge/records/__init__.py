"""What is written to disk: records, checkpoints and their metadata, hashes, atomic files, statistics of runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..lazy import lazy_exports

if TYPE_CHECKING:
    from .checkpoint import Checkpoint as Checkpoint
    from .checkpoint import read_checkpoint as read_checkpoint
    from .checkpoint import write_checkpoint as write_checkpoint
    from .checkpoint_loading import load_into as load_into
    from .hashing import state_hash as state_hash
    from .record import Record as Record

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "Checkpoint": "checkpoint",
        "Record": "record",
        "load_into": "checkpoint_loading",
        "read_checkpoint": "checkpoint",
        "state_hash": "hashing",
        "write_checkpoint": "checkpoint",
    },
)
