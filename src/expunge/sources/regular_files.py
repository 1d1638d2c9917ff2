"""Checks of a data file before it is opened: is it a regular file, and does it inflate to a sane size?"""

from __future__ import annotations

import stat
from pathlib import Path

from ..errors import ExpungeError

# An archive may always inflate to this many bytes ...
INFLATED_BYTES = 256 << 20
# ... and above that to this many times its own size.
INFLATED_RATIO = 100

KINDS = {
    stat.S_IFIFO: "a named pipe (FIFO)",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFDIR: "a folder",
}


def check_regular(path: Path) -> None:
    """Check that `path` is a regular file. Opening a named pipe would wait for ever.

    Raises:
        ExpungeError: It is missing, or it is a folder, a named pipe, a socket or a device.
    """
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError) as error:
        raise ExpungeError(
            f"{path} cannot be read: {getattr(error, 'strerror', None) or error}; give a file."
        ) from error
    if not stat.S_ISREG(mode):
        raise ExpungeError(
            f"{path} is {KINDS.get(stat.S_IFMT(mode), 'no regular file')}; give a regular file."
        )


def check_inflated(path: Path, inflated: int) -> None:
    """Check the size of the content of a compressed file, as its headers declare it.

    Args:
        path: The file.
        inflated: Bytes of the content.

    Raises:
        ExpungeError: The content has more than 256 MiB and more than 100 times the size of the file.
    """
    size = path.stat().st_size
    if inflated > max(INFLATED_BYTES, INFLATED_RATIO * size):
        raise ExpungeError(
            f"{path} would grow from {size:,} to {inflated:,} bytes; at most {INFLATED_RATIO} times its size is allowed. If you "
            "trust it, save it without compression."
        )
