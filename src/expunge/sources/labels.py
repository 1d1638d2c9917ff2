"""Class names from the labels of a table: their text, their order, and labels that are likely mistakes."""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from ..data.label_order import NUMBER

WHOLE_FLOAT = re.compile(r"([+-]?\d+)\.0*", re.ASCII)
# texts that programs write for a missing value
MISSING = frozenset(("nan", "null", "none", "n/a", "na", "<na>", "#n/a"))
# labels that a message shows
SHOWN_LABELS = 5


def is_missing(value: Any) -> bool:
    """Whether a cell holds nothing: None, NaN, or a text of spaces."""
    if isinstance(value, float) and math.isnan(value):
        return True
    return value is None or (isinstance(value, str) and not value.strip())


def as_name(value: Any) -> str:
    """Return a label or an id as text. Whole floats are written as whole numbers: 2.0 is "2"."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def label_names(values: Sequence[Any], known: Iterable[str] = ()) -> list[str]:
    """Return the labels (N,) as texts. If they and all `known` ones are numbers, whole floats such as "2.0" become "2"."""
    names = [as_name(value) for value in values]
    if all(NUMBER.fullmatch(name) for name in {*names, *known}):
        return [m[1] if (m := WHOLE_FLOAT.fullmatch(name)) else name for name in names]
    return names


def plain(name: str) -> str:
    """Return a name without differences of case, spaces and Unicode form. Zeros before and after a number go too."""
    folded = " ".join(unicodedata.normalize("NFKC", name).casefold().split())
    return str(float(folded)) if NUMBER.fullmatch(folded) else folded


def type_problems(values: Sequence[Any], place: Callable[[int], str], column: str) -> list[str]:
    """Return one sentence per label of a wrong type, or one if the labels have several types.

    Args:
        values: Labels (N,), of which missing ones are left out.
        place: Where the row of a label stands, such as "line 3".
        column: The column of the labels.
    """
    kinds: dict[str, list[int]] = {}
    problems = []
    for row, value in enumerate(values):
        if is_missing(value):
            continue
        if isinstance(value, bool):
            kinds.setdefault("truth values", []).append(row)
        elif isinstance(value, int | float) and math.isfinite(value):
            kinds.setdefault("numbers", []).append(row)
        elif isinstance(value, str):
            kinds.setdefault("texts", []).append(row)
        else:
            problems.append(
                f"{place(row)}: the label in '{column}' is {type(value).__name__} ({str(value)[:40]}); give a text or a number."
            )
    if len(kinds) > 1:
        listed = [f"{len(rows)} {kind} (first: {place(rows[0])})" for kind, rows in kinds.items()]
        problems.append(f"the labels in '{column}' are {' and '.join(listed)}; write all in one type.")
    return problems


def ignored_labels(names: Iterable[str]) -> set[str]:
    """Return the labels that stand for "no label", such as -100: negative whole numbers.

    They are classes if the numbers are a scale around 0, as -1, 0, 1 or -1, 1 are.

    Args:
        names: All labels as texts.

    Example:
        >>> ignored_labels(["0", "1", "-100"]), ignored_labels(["-1", "0", "1"])
        ({'-100'}, set())
    """
    numbers = {name: float(name) for name in names if NUMBER.fullmatch(name)}
    values = set(numbers.values())
    if all(-value in values for value in values):
        return set()
    return {name for name, value in numbers.items() if value < 0 and value.is_integer()}


def alike(names: Iterable[str]) -> list[list[str]]:
    """Return the groups of names that differ only in case, spaces, Unicode form or the way a number is written."""
    groups: dict[str, list[str]] = {}
    for name in sorted(set(names)):
        groups.setdefault(plain(name), []).append(name)
    return [group for group in groups.values() if len(group) > 1]


def label_warnings(names: Sequence[str], place: Callable[[int], str]) -> list[str]:
    """Return one sentence per kind of label that is likely a mistake.

    Args:
        names: Labels (N,) as texts.
        place: Where the row of a label stands, such as "line 3".
    """
    counts = Counter(names)
    first = {name: place(row) for row, name in reversed(list(enumerate(names)))}
    described = lambda ns: ", ".join(f"'{n}' ({counts[n]} samples, first: {first[n]})" for n in ns)  # noqa: E731
    sentences = [
        f"{described(group)} are different classes, but differ only in spaces, case or the way they are written; write them "
        "alike if they are one class."
        for group in alike(counts)
    ]
    if missing := [name for name in sorted(counts) if name.casefold() in MISSING]:
        sentences.append(
            f"the label {described(missing)} may stand for a missing value; remove such rows if so."
        )
    numbers = {name for name in counts if NUMBER.fullmatch(name)}
    if len(numbers) > 1 and (texts := sorted(set(counts) - numbers)):
        sentences.append(
            f"{len(numbers)} labels are numbers, but {described(texts[:SHOWN_LABELS])} are not; check these rows."
        )
    if signed := sorted((n for n in numbers if float(n) < 0), key=float):
        sentences.append(
            f"the label {described(signed[:SHOWN_LABELS])} is taken for a class; remove such rows if it marks samples without a label."
        )
    return sentences
