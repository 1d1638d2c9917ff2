"""Who holds the lock of a project. The lock itself is `records/part_files.py`."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from ..receipts.limits import visible


def sign(file: int) -> None:
    """Write into a locked file who holds the lock: the number of the process, and its command without values."""
    os.ftruncate(file, 0)
    words = [Path(sys.argv[0]).name, *sys.argv[1:2]] if sys.argv else []
    command = f", {' '.join(words)}" if words and words[0] == "expunge" else ""
    if hasattr(os, "pwrite"):
        os.pwrite(file, f"process {os.getpid()}{command}".encode(), 0)


def owner(file: int) -> str:
    """Return who holds the lock."""
    os.lseek(file, 0, os.SEEK_SET)
    return visible(os.read(file, 100).decode(errors="replace")) or "unknown process"
