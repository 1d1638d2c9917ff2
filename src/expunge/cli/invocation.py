"""The command as the user typed it, for records and for hints."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

from ..secret_text import argument_without_secrets

_ARGUMENTS: ContextVar[tuple[str, ...]] = ContextVar("arguments", default=())


@contextmanager
def invoked_with(arguments: Sequence[str]) -> Iterator[None]:
    """Make `arguments` the ones that `command_line` reports inside the block."""
    token = _ARGUMENTS.set(tuple(arguments))
    try:
        yield
    finally:
        _ARGUMENTS.reset(token)


def command_line() -> str:
    """Return the running command as a line that can be typed again.

    Bytes of file names that are not valid text are escaped, because JSON cannot hold them. Passwords and tokens are `***`.
    """
    line = shlex.join(["expunge", *map(argument_without_secrets, _ARGUMENTS.get())])
    return line.encode("utf-8", "backslashreplace").decode()
