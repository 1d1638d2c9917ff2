"""Memory that is used again and again stays with the process, instead of going back to the system after every step."""

from __future__ import annotations

import ctypes
import sys

_TRIM, _MAP = -1, -3  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of glibc's mallopt


def keep_freed_memory() -> bool:
    """Ask glibc to keep up to 2 GiB of freed memory, and to take pieces of less than 1 GiB from what it keeps. True if it agreed.

    By default it hands every activation of a network on a CPU back to the system and asks for zeroed pages again at the
    next step. The setting is the whole process's, so a library doesn't make it: the command line does, and a program
    that wants it calls this first. Elsewhere than on Linux with glibc nothing happens.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library, such as musl
        return False
    return bool(mallopt(_MAP, 1 << 30)) and bool(mallopt(_TRIM, 2**31 - 1))
