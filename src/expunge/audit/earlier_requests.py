"""Audit the requests that a model answered before: are their samples still forgotten?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import bdtrc

from .evaluation import Evaluation

# Points by which an earlier request's samples may be recognised better than allowed before they count as learned again.
TOLERANCE = 2.0
# Largest probability that as many samples are recognised by chance where the request is called learned again.
SIGNIFICANCE = 0.01


@dataclass(frozen=True)
class EarlierScores:
    """Hold the scores of one earlier request under a later model.

    Args:
        number: Number of the request among the model's requests, from 1.
        request: Hash that identifies the request (`PastRequest.request`).
        scenario: How its forget set was drawn.
        goal: "untrain" or "unlearn".
        samples: Number of its samples in the data.
        UA: 100 - accuracy on its samples, in percent.
        MIA: Share of its samples that the SVM attack calls non-member, in percent.
        UA_then: UA of the audit that followed its own run, or None.
        MIA_then: MIA of that audit, or None.
        UA_retrained: UA of the retrained model on its samples, or None.
        MIA_retrained: MIA of the retrained model on its samples, or None.
        came_back: Whether the model recognises its samples again.
        reason: A sentence that says by which numbers, or empty.
        receipt: Id of its receipt, or empty.
        record: Hash of its run's record, or empty.
    """

    number: int
    request: str
    scenario: str
    goal: str
    samples: int
    UA: float
    MIA: float
    UA_then: float | None = None
    MIA_then: float | None = None
    UA_retrained: float | None = None
    MIA_retrained: float | None = None
    came_back: bool = False
    reason: str = ""
    receipt: str = ""
    record: str = ""


def audit_earlier(
    evaluation: Evaluation, retrained: Evaluation | None = None, *, tolerance: float = TOLERANCE
) -> list[EarlierScores]:
    """Score every earlier request of an evaluated model.

    A request came back if its samples are recognised more than `tolerance` points better than allowed, and chance does not
    explain it (binomial test, 1 %). Allowed is the highest of three accuracies: that of the request's own audit, that of
    the retrained model, and, if only the influence of the samples was to be removed, that on the test set.

    Args:
        evaluation: The evaluation of the later model.
        retrained: The evaluation of the model retrained without all requests.
        tolerance: Tolerance in points, default 2.

    Returns:
        One entry per request with samples in the data, in the order of the requests.

    Example:
        >>> [(e.number, e.UA, e.came_back) for e in audit_earlier(evaluation)]  # doctest: +SKIP
        [(1, 100.0, False)]
    """
    return [EarlierScores(**values) for values in _scored(evaluation, retrained, tolerance)]


def earlier_entries(evaluation: Evaluation, retrained: Evaluation | None = None) -> list[dict[str, Any]]:
    """Return what `audit_earlier` finds, as entries of a record, with the changes since each request's own audit.

    There may be thousands of earlier requests, so no object is made for each of them.
    """
    entries = _scored(evaluation, retrained, TOLERANCE)
    for entry in entries:
        UA, MIA = entry["UA_then"], entry["MIA_then"]
        entry["UA_change"] = None if UA is None else entry["UA"] - UA
        entry["MIA_change"] = None if MIA is None else entry["MIA"] - MIA
    return entries


def _scored(evaluation: Evaluation, retrained: Evaluation | None, tolerance: float) -> list[dict[str, Any]]:
    """Return the fields of `EarlierScores` of each earlier request with samples in the data."""
    if not evaluation.split.earlier or evaluation.earlier is None:
        return []
    with_samples = [(at, e.past, n) for at, e in enumerate(evaluation.split.earlier, 1) if (n := e.count)]
    sizes, test = np.array([n for _, _, n in with_samples]), evaluation.test.accuracy
    own = _of_each(evaluation, sizes)
    nothing = [[None] * len(sizes)] * 2
    reference = (
        _of_each(retrained, sizes) if retrained is not None and retrained.earlier is not None else nothing
    )
    entries = [
        {
            "number": at,
            "request": past.request,
            "scenario": past.scenario,
            "goal": past.goal,
            "samples": count,
            "UA": UA,
            "MIA": MIA,
            "UA_then": past.scores.get("UA"),
            "MIA_then": past.scores.get("MIA"),
            "UA_retrained": UA_again,
            "MIA_retrained": MIA_again,
            "came_back": False,
            "reason": "",
            "receipt": past.receipt,
            "record": past.record,
        }
        for (at, past, count), UA, MIA, UA_again, MIA_again in zip(
            with_samples, *own, *reference, strict=True
        )
    ]
    for at in _better_than_chance(entries, test, tolerance):
        entries[at] |= {"came_back": True, "reason": _reason(entries[at], test)}
    return entries


def _of_each(evaluation: Evaluation, sizes: np.ndarray) -> list[list[float]]:
    """Return UA and MIA in percent of each earlier request with samples, given their numbers of samples."""
    if not len(sizes):
        return [[], []]
    predictions = evaluation.earlier
    # one attack for all requests: it is fitted on the same members and non-members
    called = evaluation.called_nonmember(predictions)
    correct = predictions.correct.double().numpy()
    # sums over all requests at once, as there may be thousands
    starts = np.cumsum(sizes) - sizes
    right, nonmember = (np.add.reduceat(np.asarray(v, dtype=np.float64), starts) for v in (correct, called))
    return [(100 - 100 * right / sizes).tolist(), (100 * nonmember / sizes).tolist()]


def _better_than_chance(entries: Sequence[dict[str, Any]], test: float, tolerance: float) -> list[int]:
    """Return the positions of the requests that are recognised better than allowed, and not by chance."""
    columns = ("UA", "UA_then", "UA_retrained", "samples")
    now, then, again, count = (np.array([e[c] for e in entries], dtype=np.float64) for c in columns)
    of_test = np.array([test if e["goal"] == "untrain" else np.nan for e in entries])
    # what is unknown is NaN, and does not count
    most = np.nan_to_num(np.fmax(np.fmax(100 - then, 100 - again), of_test), nan=0.0)
    accuracy = 100 - now
    above = np.flatnonzero(accuracy - most > tolerance)
    right = np.rint(accuracy * count / 100)[above]
    # the probability of `right` or more among all samples
    chance = bdtrc(right - 1, count[above].astype(int), np.minimum(most[above] / 100, 1.0))
    return above[chance <= SIGNIFICANCE].tolist()


def _reason(scores: dict[str, Any], test: float) -> str:
    """Return why the samples of a request count as learned again."""
    allowed = {
        "in its own audit": None if scores["UA_then"] is None else 100 - scores["UA_then"],
        "under the retrained model": None if scores["UA_retrained"] is None else 100 - scores["UA_retrained"],
        "on the test set": test if scores["goal"] == "untrain" else None,
    }
    known = {name: value for name, value in allowed.items() if value is not None}
    place, most = max(known.items(), key=lambda item: item[1], default=("if the class is unknown", 0.0))
    return (
        f"the accuracy on the {scores['samples']:,} samples of request {scores['number']} is {100 - scores['UA']:.1f} %, and at most "
        f"{most:.1f} % ({place}) is allowed; run the request again."
    )
