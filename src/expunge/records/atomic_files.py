"""Outputs appear whole or not at all.

They are written beside their target, flushed to disk, and renamed over the target. Only plain files are replaced.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from ..errors import ExpungeError, WriteError, write_error
from .part_files import PART, Part, private_file
from .together import Together, current, finish_or_remove, kept_text, refuse_special

# folders that this process has rid of what killed processes left in them
_TIDY: set[Path] = set()
# what torch's writer says where the system refuses a write; it does not say why
_TORCH_WRITER = ("PytorchStreamWriter", "inline_container", "unexpected pos", "file write failed")


@contextmanager
def atomic(
    path: str | os.PathLike[str], *, private: bool = False, replaces: bool = True, folder: bool = False
) -> Iterator[Path]:
    """Yield a temporary path in the folder of the target, and rename it to `path` if the block succeeds.

    In a block of `together`, the rename waits for the other outputs.

    Args:
        path: The target. It stays as it was if the block raises an exception.
        private: Only the owner may read the file (0600).
        replaces: Whether the target may exist.
        folder: Whether the output is a folder. It never replaces one.

    Raises:
        WriteError: Nothing can be written there, or the target is a link, a device, a pipe or a folder.
        ExpungeError: The target exists and must not be replaced.

    Example:
        >>> with atomic("model.pt") as part:
        ...     torch.save(model.state_dict(), part)
    """
    target = Path(path)
    replaces = replaces and not folder
    if folder and os.path.lexists(target):
        raise WriteError(f"{target} exists; give a new folder.")
    if not replaces and os.path.lexists(target):
        raise ExpungeError(kept_text(target))
    refuse_special(target)
    part = _new_part(target, folder)
    waits = False
    try:
        with _write_errors(part):
            if private and not folder:
                private_file(part.path)
            yield part.path
            part.flush()
            os.chmod(part.path, 0o600 if private else (0o777 if folder else 0o666) & ~_umask())
            # safetensors makes its files private to the owner, unlike all other writers
            for file in part.path.rglob("*.safetensors") if folder and not private else ():
                if not file.is_symlink():
                    os.chmod(file, 0o666 & ~_umask())
        # a file inside the part of a folder appears with the folder
        inside = any(PART.fullmatch(parent.name) for parent in target.parents)
        if (block := current()) is not None and not inside:
            block.add(part, replaces)
            waits = True
        else:
            _appear(part, replaces)
    finally:
        if not waits:
            part.remove()


def _new_part(target: Path, folder: bool) -> Part:
    parent = target.parent
    try:
        parent.mkdir(parents=True, exist_ok=True)
        if (place := parent.resolve()) not in _TIDY:
            _TIDY.add(place)
            finish_or_remove(parent)
        part = Part(target)
        if folder:
            part.path.mkdir()
        return part
    except OSError as error:
        raise write_error(target, error) from error


@contextmanager
def _write_errors(part: Part) -> Iterator[None]:
    """Turn what system, safetensors and torch raise for a failed write into `WriteError`."""
    target = part.target
    try:
        yield
    except OSError as error:
        # reading another file may fail in the block too
        if error.filename is not None and part.folder not in Path(os.fsdecode(error.filename)).parents:
            raise
        raise write_error(target, error) from error
    except SafetensorError as error:
        number = re.search(r"\(os error (\d+)\)", str(error))
        if number is None:
            raise
        raise write_error(target, OSError(int(number[1]), os.strerror(int(number[1])))) from error
    except RuntimeError as error:
        if not any(words in str(error) for words in _TORCH_WRITER):
            raise
        if shutil.disk_usage(target.parent).free < 1 << 20:
            raise write_error(target, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))) from error
        raise WriteError(
            f"{target} cannot be written: torch could not write all of it; check that the disk is not full."
        ) from error


def _appear(part: Part, replaces: bool) -> None:
    """Bring one whole output to its place."""
    if replaces or part.path.is_dir():
        block = Together(part.target)
        block.add(part, replaces)
        block.commit()
        return
    try:
        # Unlike a rename, a link fails if another process has made the target meanwhile.
        os.link(part.path, part.target)
    except FileExistsError:
        raise ExpungeError(kept_text(part.target)) from None
    except OSError:
        # The file system has no hard links.
        os.replace(part.path, part.target)


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
    with atomic(path, private=True, replaces=False) as part:
        part.write_text(text, encoding="utf-8")


def _umask() -> int:
    # files that another thread makes meanwhile must not be open to others
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
