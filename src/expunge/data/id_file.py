"""Read a file with one id per line."""

from __future__ import annotations

import os
import re
from pathlib import Path

from ..errors import ExpungeError

# Bytes that are read from a pipe at most. A file has a size, and a pipe may never end.
LARGEST_PIPE = 256 * 2**20


def read_ids(
    path: str | os.PathLike[str],
    error: type[ExpungeError] = ExpungeError,
    *,
    strip: bool = False,
    pipe: bool = False,
) -> list[str]:
    """Read ids from a text file with one id per line. Blank lines are left out.

    Args:
        path: The file, in UTF-8.
        error: The exception to raise for a file that is missing or no text.
        strip: Whether spaces around an id do not count. Without data, nobody knows whether they belong to the id;
            `samples_with_ids` finds out.
        pipe: Whether it may be a pipe, such as the shell's `<(...)`. It can be read once only.
    """
    remedy = "give a text file in UTF-8 with one id per line"
    if not (Path(path).is_file() or (pipe and Path(path).is_fifo())):
        raise error(f"{path} is no file; {remedy}.")
    try:
        with Path(path).open("rb") as file:
            raw = file.read(LARGEST_PIPE + 1 if pipe and Path(path).is_fifo() else -1)
    except OSError as problem:
        raise error(f"{path} cannot be read as ids: {problem}; {remedy}.") from problem
    if Path(path).is_fifo() and len(raw) > LARGEST_PIPE:
        raise error(
            f"{path} is a pipe with more than {LARGEST_PIPE:,} bytes; write the ids into a file, and name it."
        )
    raw = raw.removeprefix(b"\xef\xbb\xbf")
    if b"\0" in raw:
        raise error(f"{path} cannot be read as ids: it is no text in UTF-8; {remedy}.")
    # The id of a file whose name is no UTF-8 has its bytes as \xe9, and a list of file names has the bytes themselves.
    text = raw.decode("utf-8", "backslashreplace")
    # an id may hold any other line break, as file names do
    lines = [line for line in re.split(r"\r?\n", text) if line.strip()]
    return [line.strip() for line in lines] if strip else lines
