"""Keep freed memory in the process instead of returning it to the system after every step."""

from __future__ import annotations

import ctypes
import sys

# M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of glibc's mallopt
_TRIM, _MAP = -1, -3


def keep_freed_memory() -> bool:
    """Ask glibc to keep up to 2 GiB of freed memory and to reuse it for blocks below 1 GiB.

    By default, glibc returns every activation of a network on a CPU to the system and asks for zeroed pages again at the next
    step. The setting applies to the whole process, so the library does not change it. The command line does. Call this function at
    the start of your own program if you want the same. On other systems than Linux with glibc it does nothing.

    Returns:
        Whether glibc accepted the setting.

    Example:
        >>> keep_freed_memory()  # doctest: +SKIP
        True
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        # another C library, such as musl
        return False
    return bool(mallopt(_MAP, 1 << 30)) and bool(mallopt(_TRIM, 2**31 - 1))
