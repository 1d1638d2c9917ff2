"""Whether a run has collapsed: after its first epoch, the model answers retained samples as if it had learned nothing."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor

# normal quantile of a one-sided test at 5 %
QUANTILE = 1.645


def at_chance(
    epoch: int, method: Any, labels: Tensor, first: Mapping[str, Any], row: Mapping[str, Any]
) -> str:
    """Return that the accuracy on retained samples is at chance after the first epoch, as a part of a sentence; else empty.

    Chance is the share of the most frequent class: a collapsed network answers with one class. A model that was near chance before the
    run cannot fall to it, and methods with batches of their own may forget first and repair later. Both are not looked at.

    Args:
        epoch: Number of finished epochs.
        method: Its method.
        labels: Labels (n,) of the retained samples of each evaluation.
        first: The scores before the first step, in percent.
        row: The scores now.
    """
    before, now = first.get("retain"), row.get("retain")
    # by its name: the class is in a module that imports this one
    own_batches = getattr(type(method).pairs, "__qualname__", "") != "GradientMethod.pairs"
    if (
        epoch != 1
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
