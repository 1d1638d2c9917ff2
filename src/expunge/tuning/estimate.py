"""Estimate how far a model is from Retrain: by validation samples, or by the gap to a retrained model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from ..audit.evaluation import Evaluation, evaluate, gaps
from ..audit.mia import best_threshold, members_and_nonmembers
from ..audit.result import Scores
from ..data.likeness import importance_weights, weighted_mean
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
    """

    forget: Any
    retain: Any
    validation: Any
    validation_forgotten: Any

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
    def error(self) -> float:
        """Error in percent: the mean of forget set and validation samples of forgotten classes, if there are any."""
        errors = [100 - p.accuracy for p in (self.forget, self.validation_forgotten) if len(p.labels)]
        return sum(errors) / len(errors)

    @property
    def finite(self) -> bool:
        """Whether all outputs are finite."""
        return all(p.finite for p in (self.forget, self.retain, self.validation, self.validation_forgotten))

    def mia(self) -> float:
        """Return the share of the forget set that the attack calls non-member, in percent."""
        return 100 * self.called_nonmember(self.forget.confidence).double().mean().item()


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
    parts = [task.evaluate(model, unseen.take(chosen)) for chosen in (~forgotten, forgotten)]
    if evaluated is not None:
        return SetPredictions(evaluated.forget, evaluated.retain, *parts)
    return SetPredictions(task.evaluate(model, split.forget), task.evaluate(model, split.retain), *parts)


def expected_scores(original: SetPredictions, split: Split) -> Scores:
    """Return an estimate of Retrain's scores (percent) from the original and validation samples.

    The original never saw the validation samples, as Retrain never saw the forget samples. So the original's error on
    validation samples estimates UA, with importance weights (`importance_weights`). For MIA, an attack fitted on four fifths of the
    validation samples classifies the last fifth. A class that was never seen is never predicted, so both are 100.
    """
    scores: Scores = {"RA": original.retain.accuracy, "TA": original.validation.accuracy}
    if split.forget_classes:
        return {"UA": 100.0, "MIA": 100.0, **scores}
    weights, confidence = importance_weights(split), original.validation.confidence
    order = torch.from_numpy(np.random.RandomState(0).permutation(len(confidence)))
    parts, nonmember = order.chunk(FOLDS), torch.zeros(len(confidence))
    for part in parts if len(confidence) > 1 else ():
        others = torch.cat([p for p in parts if p is not part])
        nonmember[part] = original.called_nonmember(confidence[part], others).float()
    accuracy = weighted_mean(original.validation.correct, weights)
    return {"UA": 100 - 100 * accuracy, "MIA": 100 * weighted_mean(nonmember, weights), **scores}


def estimated_gap(model: SetPredictions, expected: Scores) -> float:
    """Return the average gap to the expected scores in percentage points; smaller is better.

    RA and TA count only where they are lower than expected: Retrain may gain from more training too. If a class is
    forgotten, UA is the mean over the forget set and the validation samples of the class, if there are any.
    """
    parts = [
        abs(model.error - expected["UA"]),
        max(0.0, expected["RA"] - model.retain.accuracy),
    ]
    if len(model.validation.labels):
        parts += [
            abs(model.mia() - expected["MIA"]),
            max(0.0, expected["TA"] - model.validation.accuracy),
        ]
    return sum(parts) / len(parts)


def distance_to_expected(original: nn.Module, split: Split, task: Task) -> Distance:
    """Return the function that gives a model's estimated gap."""
    expected = expected_scores(predict_sets(original, split, task), split)

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
    return distance_to_expected(original, split, task)(model)
