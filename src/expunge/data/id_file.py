"""Read a file with one id per line."""

from __future__ import annotations

import os
import re
from pathlib import Path

from ..errors import ExpungeError


def read_ids(
    path: str | os.PathLike[str], error: type[ExpungeError] = ExpungeError, *, strip: bool = False
) -> list[str]:
    """Read ids from a text file with one id per line. Blank lines are left out.

    Args:
        path: The file, in UTF-8.
        error: The exception to raise for a file that is missing or no text.
        strip: Whether spaces around an id do not count. Without data, nobody knows whether they belong to the id;
            `samples_with_ids` finds out.
    """
    remedy = "give a text file in UTF-8 with one id per line"
    if not Path(path).is_file():
        raise error(f"{path} is no file; {remedy}.")
    try:
        raw = Path(path).read_bytes().removeprefix(b"\xef\xbb\xbf")
    except OSError as problem:
        raise error(f"{path} cannot be read as ids: {problem}; {remedy}.") from problem
    if b"\0" in raw:
        raise error(f"{path} cannot be read as ids: it is no text in UTF-8; {remedy}.")
    # The id of a file whose name is no UTF-8 has its bytes as \xe9, and a list of file names has the bytes themselves.
    text = raw.decode("utf-8", "backslashreplace")
    # an id may hold any other line break, as file names do
    lines = [line for line in re.split(r"\r?\n", text) if line.strip()]
    return [line.strip() for line in lines] if strip else lines
