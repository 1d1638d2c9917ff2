"""Advice in the words of a project: entries of `expunge.toml`, and not the arguments and flags of other commands."""

from __future__ import annotations

import functools
import re
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ParamSpec, TypeVar

from ..data.validation_source import REMEDY
from ..errors import ExpungeError
from ..records.record import Record

P = ParamSpec("P")
R = TypeVar("R")

TOML = "in expunge.toml"
# advice of other packages -> what a user of a project does
_TEXTS = {
    REMEDY: f'draw them from the test set (validation_from = "test" {TOML})',
    "add --validation-from test": f'set validation_from = "test" {TOML}',
    "or raise the tolerance of the audit": f"by [recipe] {TOML} (epochs, lr, batch_size)",
    ", or name more samples (unseen_ids, --unseen-ids)": "",
    "take other samples (unseen_ids, --unseen-ids), more of them (validation, --validation), or none (validation 0)": (
        f"take more of them, or none (validation {TOML})"
    ),
}
# name=value with the flag of the same setting: copies='include', --copies include
_PAIR = re.compile(r"\b(\w+)=(?:'(\w+)'|([\d.]*\d))(?:, | \()--[a-z-]+ [\w.]*\w(\)?)")
# any other flag of an entry, perhaps with a value: --split-seed 3
_FLAG = re.compile(
    r"--(validation-from|validation|split-seed|copies|ema|data)\b(?: (?:(train|test|include|report|ignore|KEY)\b|(\d[\d.]*\d|\d)))?"
)


def for_project(text: str) -> str:
    """Return a text whose advice names entries of `expunge.toml`.

    Example:
        >>> for_project("Choose other settings, or trials='auto' (--trials auto).")
        'Choose other settings, or trials = "auto" in expunge.toml.'
    """
    for old, new in _TEXTS.items():
        text = text.replace(old, new)
    return _FLAG.sub(_flag, _PAIR.sub(_entry, text))


def _entry(pair: re.Match[str]) -> str:
    name, word, number, bracket = pair.groups()
    # a bracket that opened before the pair stays open
    closing = bracket if "(" not in pair[0] else ""
    return f"{name} = {_value(word, number)} {TOML}{closing}"


def _flag(flag: re.Match[str]) -> str:
    name, word, number = flag.groups()
    name = name.replace("-", "_")
    return (
        f"the entry {name} of expunge.toml"
        if word is None and number is None
        else f"{name} = {_value(word, number)} {TOML}"
    )


def _value(word: str | None, number: str) -> str:
    return number if word is None else f'"{word}"'


def rewrite(record: Record) -> Record:
    """Write the advice in status, notes, limits and grounds of a record in the words of a project, and return it."""
    record.status = for_project(record.status)
    for name in ("notes", "limits"):
        if isinstance(texts := record.details.get(name), list):
            record.details[name] = [for_project(text) for text in texts]
    if isinstance(grounds := record.details.get("grounds"), dict):
        record.details["grounds"] = {name: for_project(text) for name, text in grounds.items()}
    return record


class _Shown:
    """Show the warnings of one thread in the words of a project. Python has one `showwarning` for all threads."""

    def __init__(self) -> None:
        self.before: Callable[..., Any] = warnings.showwarning
        self.thread, self.is_used = threading.get_ident(), True

    def __call__(self, message: Any, category: Any, *others: Any, **named: Any) -> None:
        own = self.is_used and self.thread == threading.get_ident()
        text = for_project(str(message)) if own else str(message)
        self.before(message if text == str(message) else category(text), category, *others, **named)


_SWAP = threading.Lock()


@contextmanager
def project_words() -> Iterator[None]:
    """Let errors and warnings inside the block name entries of `expunge.toml`."""
    with _SWAP:
        warnings.showwarning = shown = _Shown()
    try:
        yield
    except ExpungeError as error:
        error.problems = [for_project(text) for text in error.problems]
        ExpungeError.__init__(error, error.problems)
        raise
    finally:
        with _SWAP:
            shown.is_used = False
            # another thread may have put its own one over this one, and the last of them removes all
            while isinstance(present := warnings.showwarning, _Shown) and not present.is_used:
                warnings.showwarning = present.before


def in_project_words(call: Callable[P, R]) -> Callable[P, R]:
    """Let a method of a project raise and warn in its words."""

    @functools.wraps(call)
    def wrapped(*arguments: P.args, **named: P.kwargs) -> R:
        with project_words():
            return call(*arguments, **named)

    return wrapped
