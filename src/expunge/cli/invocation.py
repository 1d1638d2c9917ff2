"""The command as the user typed it, for records and for hints."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

from ..secret_text import argument_without_secrets

# flags whose values may name people, also as the name of a file
_PERSONAL = (
    "--subject",
    "--group",
    "--forget-group",
    "--ids",
    "--csv",
    "--forget-ids",
    "--unseen-ids",
    "--history",
)
_SEVERAL = "--forget-group"
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
    """Return the running command for a record, as it was typed.

    Subjects, values of groups and names of files with ids may name people, and URIs may hold passwords: all are `***`.
    Bytes of file names that are not valid text are escaped, because JSON cannot hold them.
    """
    line = shlex.join(["expunge", *map(argument_without_secrets, _without_people(_ARGUMENTS.get()))])
    return line.encode("utf-8", "backslashreplace").decode()


def _without_people(arguments: Sequence[str]) -> Iterator[str]:
    """Yield the arguments with `***` for subjects, values of groups and files with ids. The column of a group stays."""
    before = ""
    for argument in arguments:
        flag, equals, value = argument.partition("=")
        name = flag.replace("_", "-")
        if before in _PERSONAL and not (name.startswith("--") and before == _SEVERAL):
            yield _masked(argument, before)
            # one flag may have several groups
            before = before if before == _SEVERAL else ""
        elif equals and name in _PERSONAL:
            yield f"{flag}={_masked(value, name)}"
            before = name if name == _SEVERAL else ""
        else:
            yield argument
            before = argument.replace("_", "-")


def _masked(value: str, flag: str) -> str:
    column, equals, _ = value.partition("=")
    return f"{column}=***" if equals and flag in ("--group", _SEVERAL) else "***"
