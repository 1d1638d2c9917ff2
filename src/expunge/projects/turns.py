"""Threads take turns with requests: torch, NumPy and `random` have one generator for a whole process, and a run seeds it."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, ParamSpec, TypeVar

from ..errors import ExpungeError

P = ParamSpec("P")
R = TypeVar("R")

# one for all sessions and projects, so that no two threads wait for each other
ONE_AT_A_TIME = threading.RLock()


class Turn:
    """Let one thread of the process work at a time, and refuse a request inside another one of the same session.

    Example:
        >>> turn = Turn()
        >>> with turn:
        ...     pass  # a second thread that enters `turn` waits here
    """

    def __init__(self) -> None:
        self._taken = False

    def __enter__(self) -> None:
        ONE_AT_A_TIME.acquire()
        # the same thread passes the lock: a tracker or another callback of the run that is under way
        if self._taken:
            ONE_AT_A_TIME.release()
            raise ExpungeError(
                "the session is answering a request, and this call comes from inside it (a tracker, a method or the data); call it when "
                "`forget` has returned."
            )
        self._taken = True

    def __exit__(self, kind: type[BaseException] | None, error: Any, trace: TracebackType | None) -> None:
        self._taken = False
        ONE_AT_A_TIME.release()

    def __reduce__(self) -> tuple[type[Turn], tuple[()]]:
        """A copy of a session, or a pickled one, has its own turn."""
        return Turn, ()


def in_turn(call: Callable[P, R]) -> Callable[P, R]:
    """Let a function that draws random numbers or trains wait until no other thread answers a request."""

    @functools.wraps(call)
    def wrapped(*arguments: P.args, **named: P.kwargs) -> R:
        with ONE_AT_A_TIME:
            return call(*arguments, **named)

    return wrapped
