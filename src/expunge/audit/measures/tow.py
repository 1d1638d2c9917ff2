"""ToW, "tug of war": one number from 0 to 1 for how close a model is to Retrain on forget, retain and test set.

Zhao, Kurmanji, Barbulescu, Triantafillou, Triantafillou, "What makes unlearning hard and what to do about it",
arXiv:2406.01257: the product of 1 - |accuracy - Retrain's accuracy| over the three sets, with accuracies from 0 to 1.
"""

from __future__ import annotations

import math
from typing import ClassVar

from ...tasks.task import Task
from ..evaluation import Evaluation
from ..measure import Measure


class ToW(Measure):
    """Multiply the closeness to Retrain on forget, retain and test set."""

    name = "ToW"
    glossary = "Closeness to Retrain on forget, retain and test set in one number: 1 is equal, 0 is as far as possible."
    unit = ""
    reference = True
    # the scores that are compared
    compared: ClassVar = ("UA", "RA", "TA")

    def compute(
        self,
        unlearned: Evaluation,
        original: Evaluation | None,
        retrained: Evaluation | None,
        task: Task,
    ) -> float | None:
        """Return the product over the compared scores of 1 - |score - Retrain's score| / 100."""
        assert retrained is not None
        own, reference = unlearned.scores, retrained.scores
        return math.prod(1 - abs(own[k] - reference[k]) / 100 for k in self.compared)
