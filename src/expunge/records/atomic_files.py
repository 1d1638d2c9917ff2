"""Outputs appear whole or not at all.

They are written beside their target, flushed to disk, and renamed over the target.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..errors import ExpungeError


@contextmanager
def atomic(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path in the folder of the target, and rename it to `path` if the block succeeds.

    Args:
        path: The target. It stays as it was if the block raises an exception.

    Raises:
        ExpungeError: Nothing can be written there.

    Example:
        >>> with atomic("model.pt") as part:
        ...     torch.save(model.state_dict(), part)
    """
    target = Path(path)
    handle, name = _new_file_beside(target)
    os.close(handle)
    part = Path(name)
    try:
        yield part
        with part.open("rb+") as file:
            os.fsync(file.fileno())
        # mkstemp makes private files, but outputs follow the umask of the user.
        os.chmod(part, 0o666 & ~_umask())
        os.replace(part, target)
    finally:
        part.unlink(missing_ok=True)


def _new_file_beside(target: Path) -> tuple[int, str]:
    """Open a new private file (0600) in the folder of the target. Returns its handle and name."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.is_dir():
            raise ExpungeError(f"{target} is a folder; give a file to write.")
        return tempfile.mkstemp(prefix=f".{target.name}.", suffix=".part", dir=target.parent)
    except OSError as error:
        raise ExpungeError(f"{target} cannot be written: {error.strerror}; give another path.") from error


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write `text` as UTF-8, atomically."""
    with atomic(path) as part:
        part.write_text(text, encoding="utf-8")


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Write `value` as readable JSON, atomically.

    Raises:
        ValueError: The value contains NaN or infinity, which are not JSON.
    """
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def write_private(path: str | os.PathLike[str], text: str) -> None:
    """Write `text` to a new file that only its owner may read (0600), atomically.

    Use it for keys and other secrets. It never replaces a file.

    Raises:
        ExpungeError: The file exists, or nothing can be written there.
    """
    target = Path(path)
    exists = f"{target} exists and is not replaced, as it may be the only copy; move it away, or give another path."
    if target.exists():
        raise ExpungeError(exists)
    handle, name = _new_file_beside(target)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        try:
            # Unlike a rename, a link fails if another process has made the target meanwhile.
            os.link(name, target)
        except FileExistsError:
            raise ExpungeError(exists) from None
        except OSError:
            # The file system has no hard links.
            os.replace(name, target)
    finally:
        Path(name).unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
