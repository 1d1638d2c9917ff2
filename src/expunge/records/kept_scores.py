"""Scores among the small entries of a torch file: an output keeps them, and they are those of the model as it was."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

SCORE = re.compile(
    r"(.*[_./ -])?(acc|accuracy|loss|f1|auc|map|miou|metric|metrics|score|scores|top1|top5|acc1|acc5)", re.I
)
# names that a notice shows
SHOWN = 4


def score_notices(name: str, rest: Any) -> list[str]:
    """Return the sentence on the scores that an output of a file keeps, or nothing.

    Args:
        name: Name of the file.
        rest: The small plain values of the file.

    Example:
        >>> score_notices("last.pth", {"epoch": 3, "best_acc": 91.5})[0][:42]
        'an output keeps the scores of last.pth (be'
    """
    found = list(_scores(rest, ""))
    if not found:
        return []
    listed = ", ".join(found[:SHOWN]) + (f" and {len(found) - SHOWN} more" if len(found) > SHOWN else "")
    return [
        f"an output keeps the scores of {name} ({listed}) as they are: they are those of the model before the run."
    ]


def _scores(value: Any, path: str) -> Iterator[str]:
    for key, item in value.items() if isinstance(value, Mapping) else ():
        place = f"{path}{key}"
        if isinstance(item, Mapping):
            yield from _scores(item, f"{place}.")
        elif type(item) in (int, float) and SCORE.fullmatch(str(key)):
            yield place
