"""What a run changed in the scores and what a reader must not overlook, in sentences."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# Percentage points. A larger fall of an accuracy is said in words.
NOTABLE = 3.0
# Scores that are equal when printed with two decimals count as unchanged.
EQUAL = 0.005


def change_texts(scores: Mapping[str, Any], before: Mapping[str, Any], *, exact: bool = False) -> list[str]:
    """Return sentences on a large loss of accuracy, and on a forget set that is recognised as before.

    Args:
        scores: Scores of the model after the run, in percent.
        before: Scores of the model before the run.
        exact: Whether the model never saw the forget set. Then an equal UA says nothing.

    Returns:
        At most two sentences. Scores that are missing are left out.

    Example:
        >>> change_texts({"RA": 76.8, "UA": 0.0}, {"RA": 98.8, "UA": 0.0})[0]
        'RA fell by 22.0 points against the original (98.8 to 76.8).'
    """
    falls = [
        (name, before[name] - scores[name], f"{before[name]:.1f} to {scores[name]:.1f}")
        for name in ("RA", "TA")
        if scores.get(name) is not None
        and before.get(name) is not None
        and before[name] - scores[name] > NOTABLE
    ]
    texts = []
    if falls:
        (first, fall, values), *others = falls
        rest = "".join(f", and {name} by {points:.1f} points ({text})" for name, points, text in others)
        texts.append(f"{first} fell by {fall:.1f} points against the original ({values}){rest}.")
    now, then = scores.get("UA"), before.get("UA")
    if now is not None and then is not None and abs(now - then) < EQUAL and not exact:
        texts.append(
            f"UA did not change ({then:.2f} before and after): by this score, the run forgot nothing."
        )
    return texts
