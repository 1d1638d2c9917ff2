"""The lock of an open file. The system frees it when the process ends, however it ends."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from ..receipts.limits import visible


def take(file: int) -> bool:
    """Lock an open file, or return False if another process has locked it."""
    try:
        if os.name == "nt":
            import msvcrt

            # beyond the text, which others read
            os.lseek(file, 1 << 20, os.SEEK_SET)
            msvcrt.locking(file, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


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
