"""Which files a pattern of shards names, such as `train-{000..004}.tar`."""

from __future__ import annotations

import glob
import re
from collections.abc import Iterator
from pathlib import Path

from ..errors import ExpungeError, raise_all
from .regular_files import check_regular


def expanded(pattern: str) -> list[Path]:
    """Return the shards of a folder, a file or a pattern, in the order of their names.

    Raises:
        ExpungeError: There are none, or one of them is missing or no regular file. Lists every one.
    """
    if Path(pattern).is_dir():
        files = sorted(Path(pattern).glob("*.tar"))
    else:
        files = [
            Path(name).expanduser() for part in _braces(pattern) for name in sorted(glob.glob(part)) or [part]
        ]
    if not files:
        raise ExpungeError(
            f"{pattern} has no .tar files; give a folder of shards, or a pattern such as train-{{000..004}}.tar."
        )
    problems = []
    for file in files:
        try:
            check_regular(file)
        except ExpungeError as error:
            problems += error.problems
    raise_all(problems)
    return files


def _braces(pattern: str) -> Iterator[str]:
    """Yield the names that `{000..004}` and `{a,b}` stand for."""
    found = re.search(r"\{(?:(\d+)\.\.(\d+)|([^{}]*,[^{}]*))\}", pattern)
    if found is None:
        yield pattern
        return
    first, last, words = found.groups()
    numbers = range(int(first), int(last) + 1) if words is None else ()
    for word in words.split(",") if words is not None else (str(n).zfill(len(first)) for n in numbers):
        yield from _braces(pattern[: found.start()] + word + pattern[found.end() :])
