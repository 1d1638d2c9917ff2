"""Outputs appear whole or not at all: written beside their place, flushed to disk, then renamed over it."""

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
    """Yield a temporary path in the target's folder; it replaces `path` only if the block ends without an exception.

    Raises `ExpungeError` where nothing can be written there.
    """
    target = Path(path)
    handle, name = _beside(target)
    os.close(handle)
    part = Path(name)
    try:
        yield part
        with part.open("rb+") as file:
            os.fsync(file.fileno())
        os.chmod(part, 0o666 & ~_umask())  # mkstemp makes private files; outputs follow the user's umask
        os.replace(part, target)
    finally:
        part.unlink(missing_ok=True)


def _beside(target: Path) -> tuple[int, str]:
    """A new private file (0600) in the target's folder, open, and its name. Raises `ExpungeError` where there can be none."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.is_dir():
            raise ExpungeError(f"{target} is a folder; name a file to write.")
        return tempfile.mkstemp(prefix=f".{target.name}.", suffix=".part", dir=target.parent)
    except OSError as error:
        raise ExpungeError(f"{target} cannot be written: {error.strerror}; name another place.") from error


def read_ids(path: str | os.PathLike[str], error: type[ExpungeError] = ExpungeError) -> list[str]:
    """The ids in a text file, one a line, blank lines left out. Raises `error` for a file that is none."""
    wanted = "give a text file in UTF-8 with one id a line"
    if not Path(path).is_file():
        raise error(f"{path} is no file; {wanted}.")
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as problem:
        raise error(f"{path} cannot be read as ids: {problem}; {wanted}.") from problem
    return [line.strip() for line in lines if line.strip()]


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write `text` as UTF-8, atomically."""
    with atomic(path) as part:
        part.write_text(text, encoding="utf-8")


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Write `value` as readable JSON, atomically. NaN and infinity are refused (`ValueError`): they are not JSON."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def write_private(path: str | os.PathLike[str], text: str) -> None:
    """Write `text` as UTF-8 into a new file that only its owner may read (0600), atomically.

    Raises `ExpungeError` where the file exists: a key or a secret that is overwritten is lost.
    """
    target = Path(path)
    taken = (
        f"{target} exists and is not replaced: it may be the only copy. Move it away, or name another file."
    )
    if target.exists():
        raise ExpungeError(taken)
    handle, name = _beside(target)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(name, target)  # unlike a rename, it fails where another process was faster
        except FileExistsError:
            raise ExpungeError(taken) from None
        except OSError:  # a file system without hard links
            os.replace(name, target)
    finally:
        Path(name).unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
