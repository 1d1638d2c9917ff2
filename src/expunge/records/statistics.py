"""Statistics over runs: the headline scores, groups of runs, mean and spread."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any, TypeVar

# The average gap is the mean of the gaps of these scores to Retrain.
# Two attacks on one model that differ by more points than this cannot both be right.
CONTRADICTION = 50.0
HEADLINE = ("UA", "RA", "TA", "MIA")
# Accuracies (percent) in the table NHLE x class weight masking: the set of the split, and the column title.
TABLE_2X2 = {
    "forget_accuracy": ("forget", "forget set"),
    "retain_accuracy": ("retain", "retain set"),
    "test_forgotten_accuracy": ("test_forgotten", "test, forgotten class"),
    "test_retain_accuracy": ("test", "test, other classes"),
}

Item = TypeVar("Item")


@dataclass(frozen=True)
class Stat:
    """Mean and spread of a score over runs.

    Args:
        mean: The mean.
        spread: The sample standard deviation. None for fewer than two values.
        n: Number of values.
    """

    mean: float
    spread: float | None
    n: int

    def text(self, digits: int = 2) -> str:
        """Return mean and spread as text: `1.24±0.10`, or `1.24` without a spread."""
        spread = "" if self.spread is None else f"±{self.spread:.{digits}f}"
        return f"{self.mean:.{digits}f}{spread}"


def stat(values: Iterable[float | None]) -> Stat | None:
    """Return mean and spread of the values that are not None. None if there are none."""
    numbers = [v for v in values if v is not None]
    if not numbers:
        return None
    return Stat(fmean(numbers), stdev(numbers) if len(numbers) > 1 else None, len(numbers))


def stat_text(values: Iterable[float | None], digits: int = 2) -> str:
    """Return mean and spread as text, or a dash if there are no values.

    Example:
        >>> stat_text([1.0, 3.0], digits=1)
        '2.0±1.4'
    """
    result = stat(values)
    return "–" if result is None else result.text(digits)


def grouped(items: Iterable[Item], key: Callable[[Item], Hashable]) -> list[list[Item]]:
    """Group items with equal keys. Groups and items keep their order of appearance."""
    groups: dict[Hashable, list[Item]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return list(groups.values())


def extra_measures(details: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the names of the extra measures in the details of records, in their order."""
    return list(dict.fromkeys(name for d in details for name in d.get("measures") or {}))


def worse_gap(scores: Mapping[str, Any]) -> float | None:
    """Return the worse of the average gap and the feature gap, by which tables are sorted.

    Args:
        scores: Scores with or without "gap". Only class-wise audits have a feature gap, and old records have none.

    Returns:
        The gap in points. None without an average gap.

    Example:
        >>> worse_gap({"gap": {"avg": 0.2, "features": 14.5}})
        14.5
    """
    gap = scores.get("gap") or {}
    average, features = gap.get("avg"), gap.get("features")
    return average if average is None or features is None else max(average, features)


def contradicted(scores: Mapping[str, Any]) -> bool:
    """Return whether MIA and MIA_entropy differ by more than 50 points, so that MIA is unreliable."""
    svm, threshold = scores.get("MIA"), scores.get("MIA_entropy")
    return svm is not None and threshold is not None and abs(svm - threshold) > CONTRADICTION


def limit_gap(scores: Mapping[str, Any]) -> Any:
    """Return the average gap that a limit is compared with: without MIA where MIA is unreliable. None without a gap.

    Example:
        >>> limit_gap({"gap": {"UA": 0.0, "MIA": 100.0, "avg": 25.3, "reliable": 0.4}})
        0.4
    """
    gap = scores.get("gap")
    return gap.get("reliable", gap.get("avg")) if isinstance(gap, Mapping) else None


def run_requests(details: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the requests that a run worked on: those that it answers, then those that it does not (`declined`).

    The forget set of the run is the union of all of them.
    """
    lists = [details.get(name) for name in ("requests", "declined")]
    return [e for listed in lists if isinstance(listed, list) for e in listed if isinstance(e, dict)]


def shown_word(entry: Mapping[str, Any]) -> str:
    """Return whether an entry of `run_requests` shows that its request is forgotten: "shown", "not shown", "declined" or "–".

    "–" is for a request to untrain whose confidences were not compared, because earlier requests removed all its samples.
    """
    if entry.get("reason"):
        return "declined"
    if entry.get("warning"):
        return "not shown"
    return "–" if entry.get("unmeasured") else "shown"


def request_state(entry: Mapping[str, Any]) -> str:
    """Return what an audit says of a request of an earlier run: an entry of `details["earlier_requests"]`.

    "not back" is all that a later audit can tell. Whether the request was forgotten, its own audit says.
    """
    if entry.get("came_back") is True:
        return "came back"
    if entry.get("samples") == 0:
        return "not audited"
    return "not shown" if entry.get("not_shown") is True else "not back"


def row_order(kind: str, gaps: Iterable[float | None]) -> tuple[int, float]:
    """Return the sort key of a table row: original, Retrain, then by mean gap. Rows without a gap come last.

    Args:
        kind: The kind of the row's records: "original", "retrain", "unlearn" or "erase".
        gaps: The `worse_gap` of each run in the row.
    """
    gap = stat(gaps)
    return {"original": 0, "retrain": 1}.get(kind, 2), math.inf if gap is None else gap.mean
