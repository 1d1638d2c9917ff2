"""Values out of records, which are files that anyone can edit: of the expected type, or nothing."""

from __future__ import annotations

import math
from typing import Any


def number(value: Any) -> float | None:
    """`value` as a finite float, or None: anything can stand where a figure belongs in a file."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        found = float(value)
    except OverflowError:
        return None
    return found if math.isfinite(found) else None


def numbers(values: Any) -> list[float | None]:
    """A list of figures; anything that is not a list is an empty one."""
    return [number(v) for v in values] if isinstance(values, list | tuple) else []


def table(value: Any) -> dict[str, Any]:
    """`value` if it is a dict, else an empty one."""
    return value if isinstance(value, dict) else {}


def shares(values: Any) -> list[float]:
    """A distribution in percent from shares or counts; empty where it is none."""
    found = [v or 0.0 for v in numbers(values)]
    whole = sum(found)
    return [100 * v / whole for v in found] if whole > 0 and min(found) >= 0 and math.isfinite(whole) else []


def apart(own: list[float], other: list[float]) -> float | None:
    """Total variation distance of two distributions, percent: what would have to move to make them equal."""
    if not own or len(own) != len(other):
        return None
    return sum(abs(a - b) for a, b in zip(own, other, strict=True)) / 2


def texts(value: Any) -> list[str]:
    """Sentences: a list of them, or one alone; empty for anything else."""
    if isinstance(value, list | tuple):
        return [str(v) for v in value if v is not None and v != ""]
    return [value] if isinstance(value, str) and value else []
