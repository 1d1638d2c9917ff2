"""Size, time of change and inode of files: what tells cheaply that nobody has edited or replaced them."""

from __future__ import annotations

import stat
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path


def file_stat(path: Path) -> list[int] | None:
    """Return size, time of change (ns) and inode of a file; None without a file."""
    try:
        found = path.stat()
    except OSError:
        return None
    return [found.st_size, found.st_mtime_ns, found.st_ino] if stat.S_ISREG(found.st_mode) else None


def stats_of(
    work: Path, files: Sequence[Path], known: Mapping[str, list[int]], names: Iterable[str]
) -> dict[str, list[int]]:
    """Return {place: what `file_stat` says}. A file that is moved keeps it.

    Args:
        work: The hidden folder of a change.
        files: Its files.
        known: What is known of other files.
        names: The places to return.
    """
    new = {str(f.relative_to(work)): file_stat(f) for f in files}
    stats = {**known, **{name: found for name, found in new.items() if found is not None}}
    return {name: stats[name] for name in names if name in stats}
