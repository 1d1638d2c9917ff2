"""What to say where the system refuses a file of a project: the disk is full, or the folder is read-only."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from ..errors import ExpungeError

# What a write into an open file, whose name the error lacks, raises.
_OF_DISKS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG, errno.EIO}


def unwritable(path: Path, error: OSError) -> ExpungeError:
    """Return the exception for a file that cannot be written."""
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    remedy = (
        "make room on the disk, and give the command again"
        if full
        else "give the user of this process write access to the folder"
    )
    return ExpungeError(f"{path} cannot be written: {error.strerror or error}; {remedy}.")


def system_error(folder: Path, error: OSError) -> ExpungeError | None:
    """Return the exception for a file that the system refused: one of the project, or one that the data needs.

    None for an error of something else: a closed pipe or connection of the caller is no fault of the folder.
    """
    if error.filename is None:
        return unwritable(folder, error) if error.errno in _OF_DISKS else None
    name = Path(os.fsdecode(error.filename))
    if name.is_relative_to(folder):
        return unwritable(name, error)
    return ExpungeError(
        f"{name} cannot be read or written: {error.strerror}; make it accessible, and give the command again."
    )
