"""What tables, pages and reports say of several runs: the four headline scores, rows of seeds, mean and spread."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import TypeVar

HEADLINE = ("UA", "RA", "TA", "MIA")  # the scores whose gaps to Retrain make the avg. gap
# accuracies (percent) in a row of the table NHLE x class weight masking: the set of the split they are taken on, and its head
TABLE_2X2 = {
    "forget_accuracy": ("forget", "forget set"),
    "retain_accuracy": ("retain", "retain set"),
    "test_forgotten_accuracy": ("test_forgotten", "test, forgotten class"),
    "test_retain_accuracy": ("test", "test, other classes"),
}

Item = TypeVar("Item")


@dataclass(frozen=True)
class Stat:
    """Mean over runs; `spread` is the sample standard deviation, None below two values."""

    mean: float
    spread: float | None
    n: int

    def text(self, digits: int = 2) -> str:
        """`1.24±0.10`, without the spread where there is none."""
        spread = "" if self.spread is None else f"±{self.spread:.{digits}f}"
        return f"{self.mean:.{digits}f}{spread}"


def stat(values: Iterable[float | None]) -> Stat | None:
    """Mean and spread of the figures there are; None where there are none."""
    found = [v for v in values if v is not None]
    return Stat(fmean(found), stdev(found) if len(found) > 1 else None, len(found)) if found else None


def shown(values: Iterable[float | None], digits: int = 2) -> str:
    """Mean and spread as text, a dash where there are no figures."""
    found = stat(values)
    return "–" if found is None else found.text(digits)


def grouped(items: Iterable[Item], key: Callable[[Item], Hashable]) -> list[list[Item]]:
    """The items with one key together, in order of appearance."""
    groups: dict[Hashable, list[Item]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return list(groups.values())


def place(kind: str, gaps: Iterable[float | None]) -> tuple[int, float]:
    """Sorts rows: original, Retrain, then by mean avg. gap; rows without a gap last."""
    found = stat(gaps)
    return {"original": 0, "retrain": 1}.get(kind, 2), math.inf if found is None else found.mean
