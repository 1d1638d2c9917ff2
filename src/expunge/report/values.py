"""Typed values from records.

Records are files that anyone can edit. A value of another type than expected is left out.
"""

from __future__ import annotations

import math
from typing import Any


def number(value: Any) -> float | None:
    """Return `value` as a finite float, or None if it is not a finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        result = float(value)
    except OverflowError:
        return None
    return result if math.isfinite(result) else None


def numbers(values: Any) -> list[float | None]:
    """Return `number` of each item of a list, or an empty list for anything else."""
    return [number(v) for v in values] if isinstance(values, list | tuple) else []


def table(value: Any) -> dict[str, Any]:
    """Return `value` if it is a dict, else an empty dict."""
    return value if isinstance(value, dict) else {}


def shares(values: Any) -> list[float]:
    """Return shares or counts as percentages that sum to 100, or an empty list if they are no distribution."""
    counts = [v or 0.0 for v in numbers(values)]
    total = sum(counts)
    return (
        [100 * v / total for v in counts] if total > 0 and min(counts) >= 0 and math.isfinite(total) else []
    )


def total_variation(first: list[float], second: list[float]) -> float | None:
    """Return the total variation distance of two distributions in percent.

    It is the share that would have to move to make them equal. None if they do not have the same classes.
    """
    if not first or len(first) != len(second):
        return None
    return sum(abs(a - b) for a, b in zip(first, second, strict=True)) / 2


def texts(value: Any) -> list[str]:
    """Return a list of sentences from a list or from one text, or an empty list for anything else."""
    if isinstance(value, list | tuple):
        return [str(v) for v in value if v is not None and v != ""]
    return [value] if isinstance(value, str) and value else []
