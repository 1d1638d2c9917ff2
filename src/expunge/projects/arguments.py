"""Types of the arguments of `Project` and `Session`, checked before anything is read or written."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime
from numbers import Integral
from pathlib import Path
from typing import Any

from ..errors import ExpungeError, raise_all


def path_of(name: str, value: Any) -> Path:
    """Return a path that a user gave.

    Raises:
        ExpungeError: It is no path.
    """
    if not isinstance(value, str | os.PathLike) or (
        isinstance(value, os.PathLike) and not isinstance(os.fspath(value), str)
    ):
        raise ExpungeError(f"{name} is {value!r}; give a path as a text or a pathlib.Path.")
    if "\0" in os.fspath(value):
        raise ExpungeError(f"{name} is {os.fspath(value)!r}, which holds a NUL character; give another path.")
    return Path(value)


def names_of(name: str, values: Any) -> tuple[str, ...]:
    """Return one id or class, or several (also an array or a tensor), as texts.

    Raises:
        ExpungeError: One of them is neither a text nor a whole number.
    """
    if values is None:
        return ()
    values = values.tolist() if hasattr(values, "tolist") else values
    several = isinstance(values, Iterable) and not isinstance(values, str | bytes | bytearray | Mapping)
    listed = list(values) if several else [values]
    listed = [v.item() if hasattr(v, "item") and getattr(v, "ndim", None) == 0 else v for v in listed]
    wrong = [v for v in listed if isinstance(v, bool) or not isinstance(v, str | Integral)]
    if wrong:
        shown = repr(wrong[0])
        shown = shown if len(shown) <= 60 else f"{shown[:60]}..."
        raise ExpungeError(
            f"{name} has {shown}, a {type(wrong[0]).__name__}; give texts or whole numbers, one or a list of them."
        )
    return tuple(str(v) for v in listed)


def text_problems(values: Mapping[str, Any]) -> list[str]:
    """Return which values are no texts, one sentence each. `values` has them by the name of their argument."""
    forms = {"group": "COLUMN=VALUE", "due": "a day as 2026-01-31", "received": "a day as 2026-01-31"}
    return [
        f"{name} is {value!r}; give {forms.get(name, 'words')} as a text, or leave it out."
        for name, value in values.items()
        if not isinstance(value, str)
    ]


def check_project(wait: Any, say: Any) -> None:
    """Raise `ExpungeError` for seconds to wait or a receiver of notes that cannot be used. All problems are listed."""
    problems = []
    if isinstance(wait, bool) or not isinstance(wait, int | float) or not wait >= 0:
        problems.append(f"wait is {wait!r}; give seconds, 0 or more.")
    if not callable(say):
        problems.append(f"say is {say!r}; give a function that takes a text, such as print.")
    raise_all(problems)


def check_requests(new: Any, kind: type, command: Any = "") -> None:
    """Raise `ExpungeError` unless `new` are requests of the class `kind`, each right by itself. All problems are listed."""
    if not isinstance(new, Sequence) or not all(isinstance(request, kind) for request in new):
        raise ExpungeError(
            f"the requests are {new!r}; give a list of requests, such as [wanted(ids=['u1'])] (expunge.projects.wanted)."
        )
    problems = [text for request in new for text in request.problems()]
    raise_all(problems + text_problems({"command": command}))


def check_day(today: Any) -> None:
    """Raise `ExpungeError` unless a day is None or a date without a time."""
    if today is not None and (isinstance(today, datetime) or not isinstance(today, date)):
        raise ExpungeError(f"today is {today!r}; give a datetime.date, or leave it out.")
