"""The lock of an open file. The system frees it when the process ends, however it ends."""

from __future__ import annotations

import os


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


def owner(file: int) -> str:
    """Return the number of the process that holds the lock, as text."""
    os.lseek(file, 0, os.SEEK_SET)
    return os.read(file, 20).decode(errors="replace") or "unknown"
