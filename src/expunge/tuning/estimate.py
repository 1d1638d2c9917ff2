"""Estimate how far a model is from Retrain: by validation samples, or by the gap to a retrained model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import nn

from ..audit.evaluation import Evaluation, evaluate, gaps
from ..audit.mia import best_threshold, members_and_nonmembers
from ..audit.result import Scores
from ..data.likeness import Likeness, likeness, weighted_mean
from ..data.split import Split
from ..tasks.task import Task

Distance = Callable[[nn.Module], float]

# parts of the validation samples for the expected MIA
FOLDS = 5
# distance of a model whose outputs are not finite, in percentage points
LARGEST_DISTANCE = 100.0


@dataclass(frozen=True, eq=False)
class SetPredictions:
    """Hold a model's predictions on the samples that tuning may use. The test set is not among them.

    Args:
        forget: Predictions on the forget set.
        retain: Predictions on the retain set.
        validation: Predictions on validation samples, without those of forgotten classes.
        validation_forgotten: Predictions on validation samples of forgotten classes.
        removed: Which forget samples are of classes that no retained sample has, bool (N,). None for none.
    """

    forget: Any
    retain: Any
    validation: Any
    validation_forgotten: Any
    removed: torch.Tensor | None = None

    def called_nonmember(
        self, confidence: torch.Tensor, nonmembers: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Return which samples a threshold attack calls non-members, bool (N,).

        The attack is a threshold, not the SVM behind the score MIA. The SVM is arbitrary below the confidences that it was
        fitted on. A forgotten class lies there, so the SVM would rank trials arbitrarily.

        Args:
            confidence: Confidences in the true class of the samples to classify (N,).
            nonmembers: Positions of the validation samples that the attack is fitted on. None takes all.
        """
        unseen = self.validation.confidence
        unseen_confidence = (unseen if nonmembers is None else unseen[nonmembers]).numpy()
        member, nonmember = members_and_nonmembers(len(self.retain.labels), len(unseen_confidence))
        threshold = best_threshold(self.retain.confidence.numpy()[member], unseen_confidence[nonmember])
        return confidence < threshold

    @property
    def of_removed(self) -> torch.Tensor:
        """Which forget samples are of classes that no retained sample has, bool (N,)."""
        return (
            torch.zeros(len(self.forget.labels), dtype=torch.bool) if self.removed is None else self.removed
        )

    @property
    def has_target(self) -> bool:
        """Whether Retrain's scores can be estimated: removed classes need no samples for that, others need unseen ones."""
        return len(self.validation.labels) > 0 or bool(self.of_removed.all())

    @property
    def removed_share(self) -> float:
        """Share of the forget samples whose classes no retained sample has, from 0 to 1."""
        return self.of_removed.double().mean().item() if len(self.of_removed) else 0.0

    @property
    def errors(self) -> tuple[float, float]:
        """Errors in percent on the removed classes and on the other forget samples.

        The first is the mean of forget samples and validation samples of removed classes. An error is 0 without samples.
        """
        removed, others = _percent_of_parts(1 - self.forget.correct.double(), self.of_removed)
        if len(self.validation_forgotten.labels):
            removed = (removed + 100 - self.validation_forgotten.accuracy) / 2
        return removed, others

    @property
    def finite(self) -> bool:
        """Whether all outputs are finite."""
        return all(p.finite for p in (self.forget, self.retain, self.validation, self.validation_forgotten))

    def mia(self) -> tuple[float, float]:
        """Return the share that the attack calls non-member, in percent, of removed classes and of other forget samples."""
        return _percent_of_parts(self.called_nonmember(self.forget.confidence), self.of_removed)


def _percent_of_parts(values: torch.Tensor, chosen: torch.Tensor) -> tuple[float, float]:
    """Return the means of values (N,) from 0 to 1 in percent, of the chosen ones and of the others; 0 for no values."""
    parts = (values[chosen], values[~chosen])
    first, second = (100 * v.double().mean().item() if len(v) else 0.0 for v in parts)
    return first, second


def predict_sets(
    model: nn.Module, split: Split, task: Task, evaluated: Evaluation | None = None
) -> SetPredictions:
    """Return the model's predictions on the forget and retain set and on the samples that training never saw.

    Args:
        model: The model.
        split: The split.
        task: The task of the model.
        evaluated: Its evaluation, which has the predictions on forget and retain set already.
    """
    unseen = split.unseen
    forgotten = torch.zeros(len(unseen), dtype=torch.bool)
    if split.forget_classes:
        forgotten = torch.isin(unseen.labels, torch.tensor(split.forget_classes))
    others, of_forgotten = (task.evaluate(model, unseen.take(chosen)) for chosen in (~forgotten, forgotten))
    known = evaluated or SimpleNamespace(
        forget=task.evaluate(model, split.forget), retain=task.evaluate(model, split.retain)
    )
    removed = None
    if split.forget.data.has_classes:
        removed = ~torch.isin(known.forget.labels, known.retain.labels)
    return SetPredictions(known.forget, known.retain, others, of_forgotten, removed)


def removes_only_classes(split: Split) -> bool:
    """Return whether no forget sample has a class of the retain set. Then Retrain's scores on the forget set are known."""
    return bool(split.forget_classes) and not bool(torch.isin(split.forget.labels, split.retain.labels).any())


def expected_scores(original: SetPredictions, split: Split) -> Scores:
    """Return an estimate of Retrain's scores (percent) from the original and validation samples.

    A class without retained samples is never predicted by Retrain, so UA and MIA of its samples are 100. The original never
    saw the validation samples, as Retrain never saw the forget samples. So for all other forget samples, the original's
    error on validation samples estimates UA, with importance weights (`importance_weights`). For MIA, an attack fitted on four
    fifths of the validation samples classifies the last fifth. UA and MIA are the means over both parts of the forget set.
    """
    scores: Scores = {"RA": original.retain.accuracy, "TA": original.validation.accuracy}
    weights, share = weights_of_others(original, split), original.removed_share
    if weights is None:
        return {"UA": 100.0, "MIA": 100.0, **scores}
    confidence = original.validation.confidence
    order = torch.from_numpy(np.random.RandomState(0).permutation(len(confidence)))
    parts, nonmember = order.chunk(FOLDS), torch.zeros(len(confidence))
    for part in parts if len(confidence) > 1 else ():
        others = torch.cat([p for p in parts if p is not part])
        nonmember[part] = original.called_nonmember(confidence[part], others).float()
    error, called = (
        100 * weighted_mean(v, weights) for v in (1 - original.validation.correct.double(), nonmember)
    )
    return {"UA": _joined(100.0, error, share), "MIA": _joined(100.0, called, share), **scores}


def weights_of_others(sets: SetPredictions, split: Split) -> torch.Tensor | None:
    """Return the importance weights of `sets.validation` (N,) for the forget samples whose classes are retained.

    None if there are no such forget samples.
    """
    alike = likeness_of_others(sets, split)
    if alike is None or not sets.of_removed.any():
        return None if alike is None else alike.weights
    weights = alike.weights
    weights = weights[~torch.isin(split.unseen.labels, torch.tensor(split.forget_classes, dtype=torch.int64))]
    return weights / weights.mean() if weights.any() else torch.ones_like(weights)


def likeness_of_others(sets: SetPredictions, split: Split) -> Likeness | None:
    """Return how unseen samples stand for the forget samples whose classes are retained; None without such samples."""
    removed = sets.of_removed
    if removed.any() and removed.all():
        return None
    return likeness(replace(split, forget=split.forget.take(~removed)) if removed.any() else split)


def forget_gap(values: tuple[float, float], expected: float, share: float) -> float:
    """Return the gap of a score on the forget set, part by part, so that one part cannot make up for the other.

    Args:
        values: The score on removed classes and on other forget samples, in percent.
        expected: The expected score of the whole forget set. That of removed classes is 100.
        share: Share of removed classes in the forget set.
    """
    others = abs(values[1] - (expected - 100 * share) / (1 - share)) if share < 1 else 0.0
    return _joined(abs(values[0] - 100), others, share)


def _joined(removed: float, others: float, share: float) -> float:
    return share * removed + (1 - share) * others


def estimated_gap(model: SetPredictions, expected: Scores) -> float:
    """Return the average gap to the expected scores in percentage points; smaller is better.

    RA and TA count only where they are lower than expected: Retrain may gain from more training too. If a class is
    removed, its UA is the mean over the forget set and the validation samples of the class, if there are any.
    """
    share = model.removed_share
    parts = [
        forget_gap(model.errors, expected["UA"], share),
        max(0.0, expected["RA"] - model.retain.accuracy),
    ]
    if len(model.validation.labels):
        parts += [
            forget_gap(model.mia(), expected["MIA"], share),
            max(0.0, expected["TA"] - model.validation.accuracy),
        ]
    return sum(parts) / len(parts)


def distance_to_expected(original: SetPredictions, split: Split, task: Task) -> Distance:
    """Return the function that gives a model's estimated gap."""
    expected = expected_scores(original, split)

    def distance(model: nn.Module) -> float:
        sets = predict_sets(model, split, task)
        return estimated_gap(sets, expected) if sets.finite else LARGEST_DISTANCE

    return distance


def distance_to_retrained(retrained: Evaluation, task: Task) -> Distance:
    """Return the function that gives a model's average gap to the retrained model."""

    def distance(model: nn.Module) -> float:
        evaluated = evaluate(model, retrained.split, task, seed=retrained.seed)
        predictions = (evaluated.forget, evaluated.retain, evaluated.test, evaluated.test_forgotten)
        finite = all(p.finite for p in predictions)
        return gaps(evaluated.scores, retrained.scores)["avg"] if finite else LARGEST_DISTANCE

    return distance


def estimated_distance(model: nn.Module, original: nn.Module, split: Split, task: Task) -> float:
    """Return the `estimated_gap` of a model, given its original; 100 if an output of the model is not finite."""
    return distance_to_expected(predict_sets(original, split, task), split, task)(model)
