"""Whether a run has collapsed: after its first epoch, the model answers retained samples as if it had learned nothing."""

from __future__ import annotations

import math
from typing import Any

from ..data.samples import Samples
from .method import GradientMethod
from .run import Row, Run

# normal quantile of a one-sided test at 5 %
QUANTILE = 1.645


def at_chance(run: Run, method: Any, retained: Samples, first: Row, row: Row) -> str:
    """Return that the accuracy on retained samples is at chance after the first epoch, as a part of a sentence; else empty.

    Chance is the share of the most frequent class: a collapsed network answers with one class. A model that was near chance before the
    run cannot fall to it, and methods with batches of their own may forget first and repair later. Both are not looked at.

    Args:
        run: The run, after an evaluation.
        method: Its method.
        retained: The retained samples of each evaluation.
        first: The scores before the first step, in percent.
        row: The scores now.
    """
    before, now, labels = first.get("retain"), row.get("retain"), retained.labels
    own_batches = getattr(type(method), "pairs", None) is not GradientMethod.pairs
    if (
        run.epoch != 1
        or own_batches
        or before is None
        or now is None
        or labels.is_floating_point()
        or labels.dim() != 1
    ):
        return ""
    share = float(labels.unique(return_counts=True)[1].max()) / len(labels)
    chance, error = 100 * share, 100 * math.sqrt(share * (1 - share) / len(labels))
    if now > chance + QUANTILE * error or before <= chance + 2 * QUANTILE * error:
        return ""
    return (
        f"the trial collapsed: after epoch 1, accuracy on retained samples is {now:.1f} %, as by chance ({chance:.1f} %; "
        f"{before:.1f} % before)"
    )
