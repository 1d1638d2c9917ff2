"""Part folders: hidden folders beside a target that hold an output until it is whole.

A process holds a lock on each of its part folders. The system frees the lock however the process ends, so an unlocked one is
what a killed process left behind: an unfinished copy that may hold parameters. It is a folder also for a single file, because
libraries make temporary files of their own beside the file that they write.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import stat
import time
from pathlib import Path

SUFFIX = ".expunge-part"
# name of the output in its part folder: torch takes it into the archive, and refuses names such as .state
CONTENT = "content"
PART = re.compile(r"\..+\.[0-9a-f]{12}\.expunge-part", re.S)
# bytes of the target's name that the name of a part folder contains: no file system takes names of more than 255
LONGEST = 200
# Where files cannot be locked, a part folder that did not change for a day counts as left behind.
ABANDONED_SECONDS = 86400.0
# the byte that Windows locks: beyond the text of a lock file, which others read
LOCKED_BYTE = 1 << 20


def private_folder(path: Path) -> None:
    """Make a folder that only its owner may use (0700), whatever the umask."""
    path.mkdir(mode=0o700)
    # a umask may take rights from the owner too
    os.chmod(path, 0o700)


def private_file(path: Path) -> None:
    """Make an empty file that only its owner may read and write (0600) from the first moment, whatever the umask.

    Raises:
        FileExistsError: The file exists.
    """
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    os.chmod(path, 0o600)


class Part:
    """Make a new part folder beside `target`, readable by its owner only, and hold its lock.

    Args:
        target: The output.

    Raises:
        OSError: Nothing can be written there.
    """

    def __init__(self, target: Path):
        self.target = target
        while True:
            self.folder = target.with_name(f".{shortened(target.name)}.{secrets.token_hex(6)}{SUFFIX}")
            private_folder(self.folder)
            try:
                # Windows opens no folders
                self.lock = None if os.name == "nt" else os.open(self.folder, os.O_RDONLY)
            except FileNotFoundError:
                # another process took the folder for one that was left behind, as it had no lock yet
                continue
            # the same can happen before the lock is taken
            if self.lock is None or (lock(self.lock) is not False and is_same(self.lock, self.folder)):
                return
            self.release()

    @property
    def path(self) -> Path:
        """Where the output is written."""
        return self.folder / CONTENT

    def flush(self) -> None:
        """Write the content to disk. Raises `OSError`."""
        for file in self.folder.rglob("*"):
            if file.is_file():
                # a umask may take rights from the owner too
                if not file.is_symlink() and not os.access(file, os.R_OK | os.W_OK):
                    os.chmod(file, stat.S_IMODE(file.stat().st_mode) | 0o600)
                with file.open("rb+") as opened:
                    os.fsync(opened.fileno())

    def release(self) -> None:
        """Free the lock."""
        if self.lock is not None:
            os.close(self.lock)
            self.lock = None

    def remove(self) -> None:
        """Remove the part folder and free the lock."""
        remove(self.folder)
        self.release()


def shortened(name: str) -> str:
    """Return the beginning of a file name, at most `LONGEST` bytes of it."""
    return os.fsdecode(os.fsencode(name)[:LONGEST]).encode("utf-8", "ignore").decode()


def is_part_of(part: Path, target: Path) -> bool:
    """Return whether `part` has the place and the name of the output `target` in its part folder."""
    folder = part.parent
    return (
        part.name == CONTENT
        and folder.parent == target.parent
        and folder.name.startswith(f".{shortened(target.name)}.")
        and bool(PART.fullmatch(folder.name))
        and not folder.is_symlink()
    )


def left_behind(folder: Path) -> list[Path]:
    """Return the part folders in a folder that no process is writing to. They are what killed processes left."""
    try:
        with os.scandir(folder) as entries:
            parts = [Path(e.path) for e in entries if PART.fullmatch(e.name) and not e.is_symlink()]
    except OSError:
        return []
    return sorted(part for part in parts if is_abandoned(part))


def remove(path: Path) -> bool:
    """Remove a file or a folder, and return whether it is gone."""
    try:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    except OSError:
        return False
    return True


def is_abandoned(part: Path, *, then_remove: bool = False) -> bool:
    """Return whether no process holds the lock of a part folder.

    Args:
        part: The part folder.
        then_remove: Remove it, while no process can take the lock. The result then says whether it is gone.
    """
    try:
        handle = os.open(
            part,
            os.O_RDONLY
            | getattr(os, "O_NOFOLLOW", 0)
            | getattr(os, "O_NONBLOCK", 0)
            | getattr(os, "O_DIRECTORY", 0),
        )
    except OSError:
        return False
    try:
        locked = lock(handle)
        abandoned = _is_old(part) if locked is None else locked
        return abandoned and (not then_remove or remove(part))
    finally:
        os.close(handle)


def _is_old(part: Path) -> bool:
    try:
        return time.time() - part.stat().st_mtime > ABANDONED_SECONDS
    except OSError:
        return False


def lock(handle: int) -> bool | None:
    """Lock an open file or folder until it is closed or the process ends.

    Returns:
        False if another process has locked it, None where it cannot be locked.
    """
    try:
        if os.name == "nt":
            import msvcrt

            os.lseek(handle, LOCKED_BYTE, os.SEEK_SET)
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
        else:
            import fcntl

            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    # Windows raises PermissionError for a lock of another process
    except (BlockingIOError, PermissionError):
        return False
    except OSError:
        return None
    return True


def is_same(handle: int, path: Path) -> bool:
    """Return whether an open file or folder still has its path."""
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except OSError:
        return False
