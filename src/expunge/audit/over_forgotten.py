"""Find forget sets on which the model is far worse than on unseen samples. This needs no retrained model."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch
from scipy.special import bdtr
from torch import Tensor

from .strong_findings import sampling_error
from .tolerances import Tolerances

# Number of samples that is assumed if `sizes` does not give it.
UNKNOWN_SIZE = 1000
# Two shares differ by more than this many standard errors by chance in 5 % of cases.
QUANTILE = 1.96
# Largest probability that so few forget samples are right by chance where the model is called over-forgotten. For a few samples,
# standard errors are no guide: one wrong sample of one is no evidence.
SIGNIFICANCE = 0.025


class Evaluated(Protocol):
    """What is read of an `Evaluation`: its split, and the predictions on the sets."""

    @property
    def split(self) -> Any: ...
    @property
    def forget(self) -> Any: ...
    @property
    def retain(self) -> Any: ...
    @property
    def test(self) -> Any: ...
    @property
    def test_forgotten(self) -> Any: ...


def over_forgotten(
    unlearned: Evaluated,
    original: Evaluated | None = None,
    retrained: Evaluated | None = None,
    tolerances: Tolerances | None = None,
    requests: int = 1,
    fresh: Tensor | None = None,
) -> str:
    """Return that a run took the accuracy on the forget set far below that on unseen samples, as a sentence. Else empty.

    It is no finding if a retrained model is as far below. It is none either if the model before the run was, or if the run did not
    lower the accuracy: then the samples are hard, and the run did no harm to them. Of samples that an earlier run removed, the
    model before the run shows nothing.

    Args:
        unlearned: The evaluation of the audited model.
        original: That of the model before the run, if it is known.
        retrained: That of a comparable retrained model, if there is one.
        tolerances: The tolerances. The default is `Tolerances()`.
        requests: Number of requests of the audit. By chance, one of them is called over-forgotten in at most `SIGNIFICANCE` of
            audits: the probability that each may have is divided by their number (Bonferroni).
        fresh: Which forget samples no earlier request removed, bool (N,). By default, the split tells.
    """
    tolerances = tolerances or Tolerances()
    if unlearned.split.goal != "untrain":
        return ""
    found = _far_below(unlearned, tolerances, requests)
    if not found or (retrained is not None and _far_below(retrained, tolerances)):
        return ""
    if original is None or unlearned is original:
        return found
    if fresh is None:
        fresh = ~torch.isin(unlearned.split.forget.index, unlearned.split.earlier_samples.index)
    pairs, before = _pairs(unlearned, fresh), _pairs(original, fresh)
    # false for NaN, which stands for no samples
    not_lowered = _compare(pairs)[0] >= _compare(before)[0]
    if not_lowered or _told(before, tolerances):
        return _far_below(unlearned, tolerances, requests, ~fresh)
    return found


def over_forgotten_by_scores(
    scores: Mapping[str, Any],
    retrained: Sequence[Mapping[str, Any]],
    original: Mapping[str, Any] | None,
    sizes: Mapping[str, int],
    tolerances: Tolerances,
) -> str:
    """Return what `over_forgotten` does from scores alone, with comparable retrained models."""
    hard = [*retrained, *([original] if original else [])]
    missed, before = number(scores.get("UA")), number((original or {}).get("UA"))
    not_lowered = missed is not None and before is not None and missed <= before
    if not_lowered or any(_scores_far_below(s, sizes, tolerances) for s in hard):
        return ""
    return _scores_far_below(scores, sizes, tolerances)


def number(value: Any) -> float | None:
    """Return a score as a number. None if it is missing or not finite."""
    return float(value) if value is not None and math.isfinite(value) else None


def _far_below(
    evaluation: Evaluated, tolerances: Tolerances, requests: int = 1, among: Tensor | None = None
) -> str:
    """Return that the accuracy on the forget set, or `among` it, is far below that on unseen samples. Else empty."""
    return _told(_pairs(evaluation, among), tolerances, requests)


def _told(pairs: Sequence[tuple[Tensor, Tensor]], tolerances: Tolerances, requests: int = 1) -> str:
    sizes = [(len(mine), len(seen)) for mine, seen in pairs if len(mine) and len(seen)]
    counts = sum(n for n, _ in sizes), sum(m for _, m in sizes)
    return _sentence(*_compare(pairs), tolerances, *counts, SIGNIFICANCE / requests)


def _pairs(evaluation: Evaluated, among: Tensor | None = None) -> list[tuple[Tensor, Tensor]]:
    """Return which forget samples (N,), all or `among` them, and which unseen samples (M,) are right, 0 or 1, for each class.

    A class without retained or without unseen samples is left out: a model that was trained without it would not recognise
    it, or there is nothing to compare with.
    """
    unseen_parts = (evaluation.test, evaluation.test_forgotten)
    forget = (evaluation.forget.correct.double(), evaluation.forget.labels)
    if among is not None:
        forget = (forget[0][among], forget[1][among])
    unseen = tuple(
        torch.cat(parts)
        for parts in zip(*((p.correct.double(), p.labels) for p in unseen_parts), strict=True)
    )
    if not evaluation.split.forget.data.has_classes:
        return [(forget[0], unseen[0])]
    return [
        (forget[0][forget[1] == k], unseen[0][unseen[1] == k])
        for k in forget[1].unique().tolist()
        if (evaluation.retain.labels == k).any()
    ]


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
    missed, expected = number(scores.get("UA")), number(scores.get("TA"))
    if missed is None or expected is None:
        return ""
    count = sizes.get("forget", UNKNOWN_SIZE)
    error = sampling_error((100 - missed + expected) / 2, min(count, sizes.get("test", UNKNOWN_SIZE)))
    return _sentence(100 - missed, expected, error, tolerances, count, sizes.get("test", UNKNOWN_SIZE))


def _sentence(
    accuracy: float,
    expected: float,
    error: float,
    tolerances: Tolerances,
    n: int,
    m: int,
    significance: float = SIGNIFICANCE,
) -> str:
    """Return the sentence for n forget and m unseen samples; empty if the accuracy is not far below what is expected."""
    allowed = max(tolerances.forget, error)
    # false for NaN, which stands for no samples
    if not expected - accuracy > allowed:
        return ""
    if bdtr(round(accuracy * n / 100), n, expected / 100 * m / (m + 1)) > significance:
        return ""
    return (
        f"Over-forgotten: the accuracy on the forget set is {accuracy:.2f} %, on unseen samples of the same classes "
        f"{expected:.2f} %. Allowed is a fall of {allowed:.2f} points. A model that never saw the forget set would treat it "
        "like unseen samples. This needs no retrained model."
    )
