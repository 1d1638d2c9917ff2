"""ToW-MIA: the "tug of war" with the membership attack in place of the accuracy on the forget set.

Zhao, Kurmanji, Barbulescu, Triantafillou, Triantafillou, "What makes unlearning hard and what to do about it",
arXiv:2406.01257: the product of 1 - |score - Retrain's score| over MIA, retain and test accuracy, from 0 to 1. The
attack here is the SVM of the score MIA, our choice.
"""

from __future__ import annotations

import math

from ...tasks.task import Task
from ..evaluation import Evaluation
from ..measure import Measure


class ToWMIA(Measure):
    """Multiply the closeness to Retrain by MIA, on the retain set and on the test set."""

    name = "ToW_MIA"
    glossary = "Closeness to Retrain by MIA and on retain and test set in one number: 1 is equal, 0 is as far as possible."
    unit = ""
    reference = True

    def compute(
        self,
        unlearned: Evaluation,
        original: Evaluation | None,
        retrained: Evaluation | None,
        task: Task,
    ) -> float | None:
        """Return the product over MIA, RA and TA of 1 - |score - Retrain's score| / 100."""
        assert retrained is not None
        own, reference = unlearned.scores, retrained.scores
        return math.prod(1 - abs(own[k] - reference[k]) / 100 for k in ("MIA", "RA", "TA"))
