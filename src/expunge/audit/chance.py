"""Say so if a model that was trained on the data classifies it no better than chance."""

from __future__ import annotations

import math
from collections.abc import Mapping

from .evaluation import Evaluation

# Most points above chance that still count as chance, however few samples there are.
MOST_ABOVE = 5.0
# The trained models, and the sets of the split that each was trained on.
TRAINED_ON = {"original": ("forget", "retain"), "retrained": ("retain",)}


def chance_limits(given: Mapping[str, Evaluation]) -> list[str]:
    """Return one sentence for each model that classifies the samples it was trained on no better than chance.

    Chance is 100 % divided by the number of classes. A model counts as no better up to the sampling error of chance at 95 %, at
    most 5 points.

    Args:
        given: {"original", "retrained" or "unlearned": evaluation}. Unlearned models may be as bad as they like.
    """
    limits = []
    for name, sets in TRAINED_ON.items():
        if name not in given or not given[name].has_logits:
            continue
        classes = given[name].split.num_classes
        parts = [getattr(given[name], part) for part in sets]
        count = sum(len(part.labels) for part in parts)
        if classes < 2 or not count:
            continue
        chance = 100 / classes
        accuracy = sum(part.accuracy * len(part.labels) for part in parts if len(part.labels)) / count
        if accuracy <= chance + min(MOST_ABOVE, 1.96 * math.sqrt(chance * (100 - chance) / count)):
            limits.append(
                f"The {name} model classifies {accuracy:.2f} % of its {count:,} training samples correctly, and chance is {chance:.2f} % "
                f"({classes} classes). It does not know these samples under these labels, so no score says anything about "
                "unlearning. Check the order of the classes, the preparation of the inputs and the checkpoint."
            )
    return limits
