"""The limits of a ledger: what a done request needs before the ledger calls it proved."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

from ..errors import raise_all
from ..records.statistics import limit_gap

# Largest average gap to Retrain, in points.
MAX_GAP = 5.0
# Verdict words of an audit that proves nothing, or the opposite.
REFUSED_WORDS = ("under-forgotten", "over-forgotten", "no conclusion", "unchanged")
# Control characters, surrogates, line separators. They can change what a terminal shows.
_UNSAFE = ("Cc", "Cs", "Zl", "Zp")
# Characters that a text of the ledger may have. Rows cannot be deleted, so a mistake would stay for ever.
LONGEST = {"subject": 200, "note": 2000}
# Marks that turn the direction of the text after them.
_TURNS = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


@dataclass(frozen=True)
class Limits:
    """Hold the limits of a ledger.

    Args:
        keys: Public keys (64 hex digits). One of them must have signed the receipt. Empty: no signature is needed.
        max_gap: Largest average gap to Retrain in points, default 5. It counts only if the audit has a reference.
        refused_words: Verdict words that are not accepted. Default: under-forgotten, over-forgotten, no conclusion.
    """

    keys: tuple[str, ...] = ()
    max_gap: float = MAX_GAP
    refused_words: tuple[str, ...] = REFUSED_WORDS

    def __post_init__(self) -> None:
        problems = []
        if not (math.isfinite(self.max_gap) and self.max_gap >= 0):
            problems.append(f"max_gap is {self.max_gap}; allowed are points from 0. Give a number from 0.")
        problems += [
            f"the verdict word {word!r} is empty or has control characters. Give words."
            for word in self.refused_words
            if not word.strip() or visible(word) != word
        ]
        raise_all(problems)

    @classmethod
    def of(cls, body: dict[str, Any]) -> Self:
        """Read the limits from a row of the ledger. Raises `TypeError` or `ValueError` for values of wrong types."""
        keys, words = tuple(body["keys"]), tuple(body["refused_words"])
        if not all(type(text) is str for text in (*keys, *words)):
            raise TypeError("keys and words of limits are texts")
        return cls(keys, float(body["max_gap"]), words)

    def to_dict(self) -> dict[str, Any]:
        """Return the content of the row that the ledger stores."""
        return asdict(self)

    def missing_signature(self, signer: str) -> list[str]:
        """Say what is missing if the receipt was signed by `signer` (64 hex digits, empty if unsigned)."""
        if not self.keys or signer in self.keys:
            return []
        return ["a signature by a key of the ledger"]

    def missing_audit(self, scores: dict[str, Any], words: str) -> list[str]:
        """List the limits that an audit exceeds, from its scores and the words of its verdict."""
        missing = []
        if number(scores.get("UA")) is None:
            missing.append("an audit with scores")
        if not words.strip():
            missing.append("an audit with a verdict (`expunge audit --out FILE` writes one)")
        average = number(limit_gap(scores))
        if average is not None and not average <= self.max_gap:
            missing.append(
                f"an audit within the limits (average gap to Retrain {average:.1f}, at most {self.max_gap:g} points)"
            )
        given = {word.strip() for word in words.split(",")}
        missing += [
            f"an audit within the limits (verdict {word})" for word in self.refused_words if word in given
        ]
        return missing


def number(value: Any) -> float | None:
    """Return a number of a row, which stores floats as text. None for anything else; NaN stays NaN."""
    try:
        return None if value is None or isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        return None


def visible(text: str) -> str:
    """Return a text with each character that can change a terminal written as an escape, such as \\x1b.

    Example:
        >>> visible("a\\x1b[31m")
        'a\\\\x1b[31m'
    """
    if text.isprintable():
        # no control character and no mark is printable
        return text
    return "".join(ascii(c)[1:-1] if _is_unsafe(c) else c for c in text)


def visible_lines(text: str) -> str:
    """Return a text as `visible` does, and keep its line breaks."""
    return "\n".join(map(visible, text.split("\n")))


def unsafe_problems(texts: dict[str, str]) -> list[str]:
    """List the texts {name: text} that hold control characters."""
    return [
        f"the {name} holds the control character {next(c for c in text if _is_unsafe(c))!a}. "
        "Allowed is printable text. Remove the character."
        for name, text in texts.items()
        if any(map(_is_unsafe, text))
    ]


def text_problems(texts: dict[str, str]) -> list[str]:
    """List the texts {name: text} of a new row that hold control characters, or are too long."""
    return unsafe_problems(texts) + [
        f"the {name} has {len(text):,} characters. Allowed are {LONGEST[name]:,}. Give a shorter one."
        for name, text in texts.items()
        if len(text) > LONGEST[name]
    ]


def missing_cover(ids: int, proved: bool, asks: int, covered: bool) -> Sequence[str]:
    """Say what is missing for the proof that the run covers the request.

    Args:
        ids: Number of ids of the request.
        proved: Whether they were proved to be in the forget set.
        asks: Number of classes and concepts of the request.
        covered: Whether the record of the run says that it removes them.
    """
    if not ids and not asks:
        return ["ids, a class or a concept in the request, so that the run can be proved to cover it"]
    missing = [] if proved or not ids else [f"a proof that its {ids} ids are in the forget set"]
    if asks and not covered:
        missing.append(f"a record of a run that removes its {asks} classes or concepts")
    return missing


def _is_unsafe(character: str) -> bool:
    return unicodedata.category(character) in _UNSAFE or character in _TURNS


# The limits of a ledger that sets none.
DEFAULT_LIMITS = Limits()
