"""Entropy of the classes that a model predicts for the forget set: do all forgotten samples go to one class?

The measure is ours; the question is that of "bias redistribution" in machine unlearning: where do the predictions on
forgotten samples go? A method that relabels with the next class sends all of them to one class, and a retrained model
spreads them. Compare the value with Retrain's.
"""

from __future__ import annotations

from ...tasks.task import Task
from ..evaluation import Evaluation
from ..measure import Measure


class RedistributionEntropy(Measure):
    """Measure how widely the predictions on the forget set spread over the classes."""

    name = "redistribution_entropy"
    glossary = (
        "Spread of the predictions on the forget set over the classes, in bits: 0 if all are the same class."
    )
    unit = "bits"
    needs = ("logits",)

    def compute(
        self,
        unlearned: Evaluation,
        original: Evaluation | None,
        retrained: Evaluation | None,
        task: Task,
    ) -> float | None:
        """Return -sum of r log2 r over the share r of forget samples that the model predicts as each class."""
        shares = unlearned.forget.shares
        shares = shares[shares > 0]
        return float((shares * (1 / shares).log2()).sum())
