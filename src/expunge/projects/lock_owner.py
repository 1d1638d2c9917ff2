"""The lock of a project: who holds it, and whether its file is still the one that was locked. `records/part_files.py` locks."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import ExpungeError
from ..receipts.limits import visible
from ..records.part_files import is_same, lock
from .system_errors import unwritable

# Seconds between two attempts to take the lock.
PAUSE = 0.1


def take(place: Path, wait: float) -> int:
    """Lock a file, and return its handle. The lock ends with its process.

    Args:
        place: The file. It is made if it does not exist.
        wait: Seconds to wait for another command.

    Raises:
        ExpungeError: Another command has the lock, or the file cannot be made.
    """
    deadline = time.monotonic() + wait
    while True:
        try:
            file = os.open(place, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise unwritable(place.parent, error) from error
        try:
            if lock(file):
                # another process may have deleted the file since it was opened
                if is_same(file, place):
                    sign(file)
                    return file
            elif time.monotonic() >= deadline:
                raise ExpungeError(
                    f"another command works in {place.parent} ({owner(file)}); wait until it ends, or let `expunge forget` wait "
                    "with --wait-for seconds."
                )
        except BaseException:
            os.close(file)
            raise
        os.close(file)
        time.sleep(PAUSE)


def check_kept(file: int, place: Path) -> None:
    """Raise `ExpungeError` unless a locked file still has its place."""
    if not is_same(file, place):
        raise ExpungeError(
            f"{place} was deleted or replaced while this command worked, so another command may have changed the folder, and this one "
            f"changes nothing; give the command again. Leave {place.name} where it is: the lock ends with its command, and the file is "
            "never in the way."
        )


@contextmanager
def kept(file: int, place: Path) -> Iterator[None]:
    """Let an error in the block say that the lock was lost, if it was: another command has removed files of this one."""
    try:
        yield
    except (ExpungeError, OSError):
        check_kept(file, place)
        raise


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
