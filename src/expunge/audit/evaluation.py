"""Evaluate a model on a split: one pass for its predictions, and the standard scores UA, RA, TA, TFA and MIA.

All scores are in percent and without augmentation. No score is good by itself: a model that was retrained without the
forget set has a UA near its test error, not near 100.

Source: SalUn, arXiv:2310.12508, section 6.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import nn

from ..data.past_requests import requests_of
from ..data.samples import Samples
from ..data.split import Split
from ..errors import ExpungeError, raise_all
from ..records.statistics import HEADLINE, contradicted
from ..summaries import score_lines, summary
from ..tasks.input_checks import broken_positions, input_problems, named_samples
from ..tasks.predictions import Predictions, taken
from ..tasks.task import Task, require
from ..torch_utils.module_state import check_seed, device_of
from ..torch_utils.precision import autocast
from ..training.run import Compute
from .mia import members_and_nonmembers, modified_entropy, svm_calls_nonmember, threshold_attack
from .result import Scores

# Number of bins of the confidence histograms.
BINS = 20


@dataclass(eq=False)
class Evaluation:
    """Hold a model's predictions on every set of a split, and compute scores from them.

    Args:
        split: The split that the model was evaluated on.
        forget: Predictions on the forget set: `Predictions` of a task with logits, else `SampleScores`.
        retain: Predictions on the retain set.
        test: Predictions on the test set. For class-wise forgetting, it is without the forgotten classes.
        test_forgotten: Predictions on the test samples of the forgotten classes.
        seed: Seed of the choice of members and non-members for MIA.
        model: The model that was evaluated, for measures that look into it.
        earlier: Predictions on the samples of the split's earlier requests, one after the other: `split.earlier` says
            how many each has. None without earlier requests.
        earlier_test: The same on `split.earlier_test_samples`.
    """

    split: Split
    forget: Any
    retain: Any
    test: Any
    test_forgotten: Any
    seed: int = 0
    model: nn.Module | None = field(default=None, repr=False)
    earlier: Any = None
    earlier_test: Any = None

    def __repr__(self) -> str:
        sizes = ", ".join(
            f"{n} {len(getattr(self, n).labels):,}" for n in ("forget", "retain", "test", "test_forgotten")
        )
        model = "" if self.model is None else f"model {type(self.model).__name__}"
        # MIA takes seconds on large sets
        scores = score_lines(self.scores) if "scores" in vars(self) else ["scores: see .scores"]
        return summary(f"Evaluation(seed {self.seed})", f"samples: {sizes}", model, *scores)

    @property
    def has_logits(self) -> bool:
        """Whether the predictions are those of a classifier."""
        return isinstance(self.forget, Predictions)

    @cached_property
    def scores(self) -> Scores:
        """UA, RA, TA, MIA, MIA_entropy and TFA, in percent.

        UA is 100 - accuracy on the forget set. RA and TA are the accuracies on retain and test set. MIA is the share of
        the forget set that the SVM attack classifies as non-member. MIA_entropy, which only classifiers have, is the
        same for the threshold attack on the modified entropy. TFA is the accuracy on test samples of the forgotten
        classes, or None without any.
        """
        scores: Scores = {
            "UA": 100 - self.forget.accuracy,
            "RA": self.retain.accuracy,
            "TA": self.test.accuracy,
        }
        scores["MIA"] = 100 * float(self.called_nonmember(self.forget).mean())
        if self.has_logits:
            member, nonmember = self._members
            # negated: members have a low entropy, and the threshold attack expects high scores for members
            retain, test, forget = (
                -modified_entropy(p.probabilities.numpy(), p.labels.numpy())
                for p in (self.retain, self.test, self.forget)
            )
            scores["MIA_entropy"] = threshold_attack(retain[member], test[nonmember], forget)
        scores["TFA"] = self.test_forgotten.accuracy if len(self.test_forgotten.labels) else None
        return scores

    @cached_property
    def _members(self) -> tuple[np.ndarray, np.ndarray]:
        """Positions of the members (retain set) and non-members (test set) that attacks are fitted on."""
        return members_and_nonmembers(len(self.retain.labels), len(self.test.labels), seed=self.seed)

    def called_nonmember(self, predictions: Any) -> np.ndarray:
        """Return which samples the SVM attack on this model classifies as non-member, bool (n,).

        Args:
            predictions: The model's predictions on the samples (n,).
        """
        member, nonmember = self._members
        retain, test = self.retain.confidence.numpy(), self.test.confidence.numpy()
        return svm_calls_nonmember(retain[member], test[nonmember], predictions.confidence.numpy())

    @property
    def per_class(self) -> list[float | None]:
        """Test accuracy of every class, in percent. None for a class without test samples."""
        labels = torch.cat([self.test.labels, self.test_forgotten.labels])
        correct = torch.cat([self.test.correct, self.test_forgotten.correct]).double()
        return [
            100 * correct[labels == k].mean().item() if (labels == k).any() else None
            for k in range(self.test.logits.shape[1])
        ]

    @property
    def redistribution(self) -> list[float]:
        """Share of the forget samples that the model predicts as each class."""
        return self.forget.shares.tolist()

    def histogram(self) -> dict[str, list[int]]:
        """Count true-class confidences in 20 equal bins from 0 to 1, for forget, retain and test set."""
        return {
            name: np.histogram(predictions.confidence.numpy(), BINS, (0, 1))[0].tolist()
            for name, predictions in (("forget", self.forget), ("retain", self.retain), ("test", self.test))
        }


def evaluate(
    model: nn.Module,
    split: Split,
    task: Task,
    *,
    seed: int = 0,
    batch_size: int = 256,
    compute: Compute | None = None,
) -> Evaluation:
    """Evaluate a model on every set of a split, in one pass.

    Args:
        model: The model. It is not changed.
        split: The split. Samples of other requests that the model has answered leave it (`Split.after`).
        task: The task of the model.
        seed: Seed of the choice of members and non-members for MIA.
        batch_size: Number of samples in one forward pass.
        compute: Precision of the pass. The default is full precision.

    Returns:
        Predictions and scores.

    Raises:
        ExpungeError: If the seed is not a whole number from 0.
        ModelError: If the task does not offer "scores".

    Example:
        >>> evaluate(model, split, task).scores["UA"]
        5.2
    """
    check_seed(seed)
    require(task, ["scores"], "an audit")
    split = split.after(requests_of(model))
    raise_all([p for samples in (split.forget, split.test) for p in input_problems(samples)], ExpungeError)
    features = task.has_head(model, split.retain)
    # an empty set, such as the test samples of no forgotten class, cannot tell which layer is the head
    located = task.with_head(model, split.retain) if features else task
    predict = lambda samples: located.evaluate(model, samples, features=features, batch_size=batch_size)  # noqa: E731
    with autocast((compute or Compute()).amp, device_of(model)):
        forget, retain = predict(split.forget), predict(split.retain)
        test, test_forgotten = predict(split.test), predict(split.test_forgotten)
        earlier = _of_earlier(split, located, model, batch_size) if split.earlier else None
        earlier_test = predict(split.earlier_test_samples) if split.earlier else None
    _check_samples(
        (split.forget, forget),
        (split.retain, retain),
        (split.test, test),
        (split.test_forgotten, test_forgotten),
    )
    return Evaluation(split, forget, retain, test, test_forgotten, seed, model, earlier, earlier_test)


def _of_earlier(split: Split, task: Task, model: nn.Module, batch_size: int) -> Any:
    """Return the predictions on the samples of all earlier requests: one pass over the different ones."""
    samples = split.earlier_samples
    index, places = samples.index.unique(return_inverse=True)
    return taken(task.evaluate(model, Samples(samples.data, index), batch_size=batch_size), places)


def _check_samples(*sets: tuple[Samples, Any]) -> None:
    """Raise `ExpungeError` with the samples whose outputs are NaN because their inputs are: a stream is not read before."""
    nan = [samples.take(p.confidence.isnan().cpu()) for samples, p in sets]
    broken = [(samples, broken_positions(samples)) for samples in nan if len(samples)]
    raise_all(
        [
            f"{named_samples(s.data, bad)} NaN or infinity in the inputs; repair or remove the samples."
            for s, bad in broken
            if bad
        ],
        ExpungeError,
    )


def gaps(scores: Mapping[str, Any], reference: Mapping[str, Any]) -> dict[str, float]:
    """Return |score - Retrain's score| of UA, RA, TA and MIA in points, and their mean as "avg".

    Args:
        scores: Scores of the audited model.
        reference: Scores of the retrained model.

    Returns:
        {score: gap}, and "avg". If MIA of one of the models is unreliable (`contradicted`), "reliable" is the mean without it,
        which limits are compared with.

    Source: SalUn, arXiv:2310.12508, section 6.
    """
    of_scores = {k: abs(scores[k] - reference[k]) for k in HEADLINE}
    result = {**of_scores, "avg": sum(of_scores.values()) / len(of_scores)}
    if contradicted(scores) or contradicted(reference):
        result["reliable"] = sum(gap for name, gap in of_scores.items() if name != "MIA") / (
            len(of_scores) - 1
        )
    return result
