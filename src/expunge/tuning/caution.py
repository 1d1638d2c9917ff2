"""Estimate a gap for decisions that nobody looks at: `trials="auto"`, and the claim that a run did harm."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch

from ..audit.evaluation import Evaluation, gaps
from ..audit.result import Scores
from ..audit.strong_findings import sampling_error
from ..data.likeness import Likeness, effective_size
from ..data.split import Split
from ..tasks.task import Task
from .estimate import (
    LARGEST_DISTANCE,
    Distance,
    SetPredictions,
    estimated_gap,
    expected_scores,
    forget_gap,
    predict_sets,
    weights_of_others,
)

# factor of the critical value of the Kolmogorov-Smirnov distance at 5 %
CRITICAL = 1.358


@dataclass(frozen=True, eq=False)
class CautiousEstimate:
    """Estimate a gap for a decision that nobody looks at.

    The attack of `estimated_gap` reacts to tiny changes of confidence where the model is sure of everything. So its part
    is replaced:
    - Removed classes: the attack counts as at least as wrong as UA. A class that is recognised is remembered.
    - Other samples: the distance of the confidences on the forget set from those on validation samples, above what
      chance gives (`excess_distance`). Retrain treats both alike.

    Args:
        expected: Estimate of Retrain's scores.
        weights: Importance weights of the validation samples (N,). None if all forget samples are of removed classes.
        size: Number of validation samples, without those of forgotten classes.
        share: Share of removed classes in the forget set.
        retained: Number of retained samples. Without validation samples, they alone show a loss of accuracy.
    """

    expected: Scores
    weights: torch.Tensor | None
    size: int
    share: float = 0.0
    retained: int = 0

    @classmethod
    def of(cls, original: SetPredictions, split: Split) -> CautiousEstimate:
        """Return the estimate that follows from the original's predictions."""
        weights, expected = weights_of_others(original, split), expected_scores(original, split)
        sizes = len(original.validation.labels), len(original.retain.labels)
        return cls(expected, weights, sizes[0], original.removed_share, sizes[1])

    @property
    def accuracy_error(self) -> float:
        """Sampling error (95 %, in points of the gap) of the accuracy that shows a loss: on validation or on retained samples."""
        if self.size:
            return sampling_error(self.expected["TA"], self.size) / 4
        return sampling_error(self.expected["RA"], self.retained) / 2 if self.retained else 0.0

    @property
    def margin(self) -> float:
        """Sampling error of the gap (95 %, in percentage points). The scores of removed classes are known: theirs is 0."""
        if self.weights is None:
            return 0.0
        error = (self.expected["UA"] - 100 * self.share) / (1 - self.share)
        return (1 - self.share) * sampling_error(error, round(effective_size(self.weights))) / 4

    def doubt(self, size: int) -> float:
        """Return by how much two gaps must differ for a claim about them, in percentage points.

        Args:
            size: Number of forget samples.
        """
        if self.weights is None:
            return self.accuracy_error
        chance = 100 * _critical(size * (1 - self.share), effective_size(self.weights)) / 4
        return math.hypot(self.margin, (1 - self.share) * chance)

    def utility_loss(self, model: SetPredictions) -> float:
        """Return the part of the gap that comes from a lower accuracy on retained and on unseen samples."""
        falls = [self.expected["RA"] - model.retain.accuracy]
        falls += [self.expected["TA"] - model.validation.accuracy] if self.size else []
        return sum(max(0.0, fall) for fall in falls) / (4 if self.size else 2)

    def is_worse(self, model: SetPredictions, original: SetPredictions, size: int) -> bool:
        """Return whether a model is further from the target than the original, beyond chance.

        The forgetting of a few samples cannot be measured well. Utility can: a loss larger than the whole gap of the original is
        more than any forgetting can make up for.

        Args:
            model: The model's predictions.
            original: The original's predictions.
            size: Number of forget samples.
        """
        before = self.gap(original)
        if self.gap(model) > before + self.doubt(size):
            return True
        # of a difference of two accuracies
        return self.utility_loss(model) > before + math.sqrt(2) * self.accuracy_error

    def gap(self, model: SetPredictions) -> float:
        """Return the gap in percentage points; 100 if an output is not finite."""
        if not model.finite:
            return LARGEST_DISTANCE
        gap = estimated_gap(model, self.expected)
        if not len(model.validation.labels):
            return gap
        called, removed = model.mia(), model.of_removed
        attack = forget_gap(called, self.expected["MIA"], self.share)
        cautious = self.share * max(abs(called[0] - 100), abs(model.errors[0] - 100))
        if self.weights is not None:
            confidences = (model.forget.confidence[~removed], model.validation.confidence)
            cautious += (1 - self.share) * 100 * excess_distance(*confidences, self.weights)
        # the four parts of a gap count alike
        return gap + (cautious - attack) / 4


def cautious_distance(original: SetPredictions, split: Split, task: Task) -> tuple[Distance, float]:
    """Return the function that gives a model's cautious gap, and the margin of that gap."""
    estimate = CautiousEstimate.of(original, split)
    return lambda model: estimate.gap(predict_sets(model, split, task)), estimate.margin


def gap_error(expected: Scores, share: float, alike: Likeness | None) -> float:
    """Return the standard error of the estimated gap that comes from few comparable samples, in percentage points.

    UA and MIA, two of the four parts of a gap, are estimated from the same samples, so their errors add up:
    (1 - share) * (error of UA + error of MIA) / 4.

    Args:
        expected: Estimate of Retrain's scores.
        share: Share of removed classes in the forget set, whose scores are known.
        alike: How unseen samples stand for the other forget samples; None if there are none.
    """
    if alike is None:
        return 0.0
    others = [(expected[name] - 100 * share) / (1 - share) for name in ("UA", "MIA")]
    return (1 - share) * sum(alike.error(percent) for percent in others) / 4


def excess_distance(values: torch.Tensor, others: torch.Tensor, weights: torch.Tensor) -> float:
    """Return how much the distributions of two samples differ beyond chance, from 0 to 1.

    It is the Kolmogorov-Smirnov distance minus its critical value at 5 %.

    Args:
        values: The first sample (N,).
        others: The second sample (M,).
        weights: Weight of each element of `others` (M,).
    """
    points = torch.cat([values, others]).double().sort().values
    order = others.double().argsort()
    cumulative = torch.cat([torch.zeros(1, dtype=torch.float64), weights.double()[order].cumsum(0)])
    share = torch.searchsorted(values.double().sort().values, points, right=True) / len(values)
    other_share = cumulative[torch.searchsorted(others.double()[order], points, right=True)] / cumulative[-1]
    critical = _critical(len(values), effective_size(weights))
    return max(0.0, float((share - other_share).abs().max()) - critical)


def _critical(n: float, m: float) -> float:
    """Return the Kolmogorov-Smirnov distance that samples of `n` and `m` exceed by chance in 5 % of cases."""
    return CRITICAL * math.sqrt((n + m) / (n * m))


def worse_text(own: Any, original: Any, retrained: Any, task: Task) -> str:
    """Return that a model is further from the target than the original, as a sentence. Empty if it is not, or unknown.

    The target is the retrained model. Without one, it is estimated from validation samples. A difference within the sampling
    error counts as none.

    Args:
        own: Evaluation of the model.
        original: Evaluation of the original, or None.
        retrained: Evaluation of the retrained model, or None. It must be comparable with the original.
        task: The task of the models.
    """
    if not isinstance(own, Evaluation) or not isinstance(original, Evaluation) or own.model is original.model:
        return ""
    if isinstance(retrained, Evaluation):
        gap, before = (gaps(e.scores, retrained.scores)["avg"] for e in (own, original))
        return (
            _sentence("average gap to Retrain", gap, before)
            if gap > before + _error_of_gap(retrained)
            else ""
        )
    split = own.split
    if own.model is None or original.model is None or not (len(split.unseen) or split.forget_classes):
        return ""
    was = predict_sets(original.model, split, task, original)
    if not was.has_target:
        return ""
    estimate = CautiousEstimate.of(was, split)
    now = predict_sets(own.model, split, task, own)
    if not estimate.is_worse(now, was, len(split.forget)):
        return ""
    return _sentence("estimated gap", estimate.gap(now), estimate.gap(was))


def _error_of_gap(retrained: Evaluation) -> float:
    """Return the sampling error (95 %, in points) of the average gap to a retrained model."""
    sizes = {
        "UA": len(retrained.forget.labels),
        "RA": len(retrained.retain.labels),
        "TA": len(retrained.test.labels),
        "MIA": len(retrained.forget.labels),
    }
    errors = {name: sampling_error(retrained.scores[name] or 0.0, size) for name, size in sizes.items()}
    # UA and MIA are scores of the same samples, so their errors may add up
    return math.hypot(errors["UA"] + errors["MIA"], errors["RA"], errors["TA"]) / len(errors)


def _sentence(name: str, gap: float, before: float) -> str:
    return (
        f"the {name} is {gap:.2f} points, the original's {before:.2f}. The run did harm. Choose other settings, another method, "
        "or trials='auto' (--trials auto)."
    )
