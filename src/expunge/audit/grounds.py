"""Find the reasons why an audit must not conclude: a reference that is not comparable, or a model that did not change.

The module also finds forget sets on which the model is far worse than on unseen samples. This needs no reference.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from scipy.special import bdtr
from torch import Tensor

from ..data.past_requests import requests_of
from ..data.split import Goal
from ..errors import raise_all
from ..torch_utils.module_state import same_buffers, same_parameters
from .evaluation import Evaluation
from .result import Grounds
from .strong_findings import sampling_error

# Scores of a reference that must be near the original's, and the set of the split that each is a share of.
COMPARED = {"RA": "retain", "TA": "test"}
# Number of samples that is assumed if `sizes` does not give it.
UNKNOWN_SIZE = 1000
# Two shares differ by more than this many standard errors by chance in 5 % of cases.
QUANTILE = 1.96
ORIGINAL = "the original"
# Largest probability that so few forget samples are right by chance where the model is called over-forgotten. For a few samples,
# standard errors are no guide: one wrong sample of one is no evidence.
SIGNIFICANCE = 0.025


@dataclass(frozen=True, kw_only=True)
class Tolerances:
    """Set how far scores may differ before an audit refuses its reference, or calls a model over-forgotten.

    Both defaults are more than twice what chance does. In the 39 pairs of original and retrained model in
    `benchmarks/results`, RA differs by at most 0.8 points and TA by at most 4.8. Where a set is so small that its sampling
    error at 95 % is larger than the tolerance, the sampling error is allowed.

    Args:
        reference: Largest difference between the RA, and between the TA, of the retrained model and the original, in
            percentage points. A reference beyond it is not comparable.
        forget: Largest fall of the accuracy on the forget set below the accuracy on unseen samples of the same classes, in
            percentage points, for the goal `untrain`. A model beyond it is over-forgotten.

    Example:
        >>> audit(model, split, task, retrained=retrained, original=original, tolerances=Tolerances(reference=15))
    """

    reference: float = 10.0
    forget: float = 20.0

    def check(self) -> None:
        """Raise `ExpungeError` with every problem."""
        raise_all(
            [
                f"the tolerance {name} is {value:g}; give a finite number of percentage points, 0 or more."
                for name, value in asdict(self).items()
                if not 0 <= value < math.inf
            ]
        )


def find_grounds(
    unlearned: Evaluation,
    original: Evaluation | None = None,
    retrained: Evaluation | None = None,
    tolerances: Tolerances | None = None,
) -> Grounds:
    """Return the grounds of an audit from the evaluations of its models.

    Args:
        unlearned: The evaluation of the audited model.
        original: The evaluation of the original.
        retrained: The evaluation of the retrained model.
        tolerances: The tolerances. The default is `Tolerances()`.

    Raises:
        ExpungeError: If a tolerance is not a finite number of 0 or more.
    """
    tolerances = tolerances or Tolerances()
    tolerances.check()
    reference, before = "", _before(unlearned, original)
    if original is not None and retrained is not None:
        reference = _same_model(original, retrained, before) or reference_problem(
            retrained.scores, original.scores, unlearned.split.sizes, tolerances, before
        )
    over_forgotten = ""
    if unlearned.split.goal == "untrain":
        normal = retrained is not None and not reference and _far_below(retrained, tolerances)
        over_forgotten = "" if normal else _far_below(unlearned, tolerances)
    return Grounds(_unchanged(unlearned, original, before), reference, over_forgotten)


def _before(unlearned: Evaluation, original: Evaluation | None) -> str:
    """Return what tables and reports call the model before the run: one that has answered requests is not the original."""
    answered = unlearned.split.earlier or (original and original.model and requests_of(original.model))
    return "the model before this run" if answered else ORIGINAL


def grounds_of_scores(
    scores: Mapping[str, Any],
    retrained: Sequence[Mapping[str, Any]] = (),
    original: Mapping[str, Any] | None = None,
    *,
    sizes: Mapping[str, int] | None = None,
    goal: Goal = "unlearn",
    tolerances: Tolerances | None = None,
) -> Grounds:
    """Return the grounds that scores alone can give. Arguments are those of `verdict`.

    Scores do not tell whether a model changed. For forgotten classes, they do not tell which classes the retain set has,
    so nothing is called over-forgotten.
    """
    tolerances, counts = tolerances or Tolerances(), sizes or {}
    tolerances.check()
    problems = [reference_problem(r, original, counts, tolerances) for r in retrained if original]
    reference = next((p for p in problems if p), "")
    over_forgotten = ""
    if goal == "untrain" and scores.get("TFA") is None:
        normal = not reference and any(_scores_far_below(r, counts, tolerances) for r in retrained)
        over_forgotten = "" if normal else _scores_far_below(scores, counts, tolerances)
    return Grounds(reference=reference, over_forgotten=over_forgotten)


def reference_problem(
    retrained: Mapping[str, Any],
    original: Mapping[str, Any],
    sizes: Mapping[str, int],
    tolerances: Tolerances,
    before: str = ORIGINAL,
) -> str:
    """Return why a retrained model is not comparable with the original, called `before`, by RA and TA. Else empty."""
    differences = []
    for name, samples in COMPARED.items():
        value, expected = _number(retrained.get(name)), _number(original.get(name))
        if value is None or expected is None:
            continue
        size = sizes.get(samples, UNKNOWN_SIZE)
        allowed = max(tolerances.reference, sampling_error((value + expected) / 2, size))
        if abs(value - expected) > allowed:
            differences.append(
                f"Its {name} is {value:.2f}, {_of(before)} is {expected:.2f}: {abs(value - expected):.2f} points apart, "
                f"allowed are {allowed:.2f}."
            )
    if not differences:
        return ""
    return (
        f"The retrained model is not comparable with {before}. {' '.join(differences)} Train the reference on the retain "
        "set with the recipe of the original, or raise the tolerance of the audit."
    )


def _of(before: str) -> str:
    return f"{before}'s" if before == ORIGINAL else f"that of {before}"


def _number(value: Any) -> float | None:
    return float(value) if value is not None and math.isfinite(value) else None


def _unchanged(unlearned: Evaluation, original: Evaluation | None, before: str) -> str:
    if original is None or unlearned.model is None or original.model is None:
        return ""
    # of one object, the caller asks for the scores of the original
    if unlearned.model is original.model or not same_parameters(unlearned.model, original.model):
        return ""
    if same_buffers(unlearned.model, original.model):
        return f"The model is {before}: every parameter is identical. Nothing was unlearned."
    return (
        f"Every parameter is identical to {_of(before)}. Only buffers differ, such as batch-norm statistics. Nothing was "
        "unlearned."
    )


def _same_model(original: Evaluation, retrained: Evaluation, before: str) -> str:
    one, other = original.model, retrained.model
    if one is None or other is None or not same_parameters(one, other):
        return ""
    return (
        f"The retrained model is not comparable with {before}: every parameter is identical, so it saw the forget set. "
        "Train the reference on the retain set alone."
    )


def _far_below(evaluation: Evaluation, tolerances: Tolerances) -> str:
    """Return that the accuracy on the forget set is far below that on unseen samples, as a sentence. Else empty.

    Classes are compared with the same classes. A class without retained or without unseen samples is left out: a model that
    was trained without it would not recognise it, or there is nothing to compare with.
    """
    unseen_parts = (evaluation.test, evaluation.test_forgotten)
    forget = (evaluation.forget.correct.double(), evaluation.forget.labels)
    unseen = tuple(
        torch.cat(parts)
        for parts in zip(*((p.correct.double(), p.labels) for p in unseen_parts), strict=True)
    )
    if not evaluation.split.forget.data.has_classes:
        return _sentence(*_compare([(forget[0], unseen[0])]), tolerances, len(forget[0]), len(unseen[0]))
    pairs = [
        (forget[0][forget[1] == k], unseen[0][unseen[1] == k])
        for k in forget[1].unique().tolist()
        if (evaluation.retain.labels == k).any()
    ]
    sizes = [(len(mine), len(seen)) for mine, seen in pairs if len(seen)]
    return _sentence(*_compare(pairs), tolerances, sum(n for n, _ in sizes), sum(m for _, m in sizes))


def _compare(pairs: Sequence[tuple[Tensor, Tensor]]) -> tuple[float, float, float]:
    """Return both accuracies in percent, and their sampling error in points, with the weights of the forget set."""
    pairs = [(mine, unseen) for mine, unseen in pairs if len(mine) and len(unseen)]
    total = sum(len(mine) for mine, _ in pairs)
    if not total:
        return math.nan, math.nan, math.nan
    accuracy = expected = variance = 0.0
    for mine, unseen in pairs:
        weight, pooled = len(mine) / total, float(torch.cat([mine, unseen]).mean())
        accuracy += weight * float(mine.mean())
        expected += weight * float(unseen.mean())
        variance += weight**2 * pooled * (1 - pooled) * (1 / len(mine) + 1 / len(unseen))
    return 100 * accuracy, 100 * expected, 100 * QUANTILE * math.sqrt(variance)


def _scores_far_below(scores: Mapping[str, Any], sizes: Mapping[str, int], tolerances: Tolerances) -> str:
    missed, expected = _number(scores.get("UA")), _number(scores.get("TA"))
    if missed is None or expected is None:
        return ""
    count = sizes.get("forget", UNKNOWN_SIZE)
    error = sampling_error((100 - missed + expected) / 2, min(count, sizes.get("test", UNKNOWN_SIZE)))
    return _sentence(100 - missed, expected, error, tolerances, count, sizes.get("test", UNKNOWN_SIZE))


def _sentence(accuracy: float, expected: float, error: float, tolerances: Tolerances, n: int, m: int) -> str:
    """Return the sentence for n forget and m unseen samples; empty if the accuracy is not far below what is expected."""
    allowed = max(tolerances.forget, error)
    # false for NaN, which stands for no samples
    if not expected - accuracy > allowed:
        return ""
    if bdtr(round(accuracy * n / 100), n, expected / 100 * m / (m + 1)) > SIGNIFICANCE:
        return ""
    return (
        f"Over-forgotten: the accuracy on the forget set is {accuracy:.2f} %, on unseen samples of the same classes "
        f"{expected:.2f} %. Allowed is a fall of {allowed:.2f} points. A model that never saw the forget set would treat it "
        "like unseen samples. This needs no retrained model."
    )
