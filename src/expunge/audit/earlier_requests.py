"""Audit the requests that a model answered before: are their samples still forgotten?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from scipy.special import bdtrc

from .evaluation import Evaluation

# Points by which an earlier request's samples may be recognised better than allowed before they count as learned again.
TOLERANCE = 2.0
# Largest probability that as many samples are recognised by chance where the request is called learned again.
SIGNIFICANCE = 0.01
# the same as a quantile of the normal distribution
NORMAL = 2.326
# numbers of requests that a sentence shows
SHOWN = 5


@dataclass(frozen=True)
class EarlierScores:
    """Hold the scores of one earlier request under a later model.

    Args:
        number: Number of the request among the model's requests, from 1.
        request: Hash that identifies the request (`PastRequest.request`).
        scenario: How its forget set was drawn.
        goal: "untrain" or "unlearn".
        samples: Number of samples that were scored; 0 if the data has none any more.
        scored: "training" if these are its own samples, "test" if they are the test samples of its classes, as the data has
            no training samples of them any more, or "" if there is nothing to score.
        UA: 100 - accuracy on these samples, in percent; None without samples.
        MIA: Share of them that the SVM attack calls non-member, in percent; None for test samples and without samples.
        UA_then: UA of the audit that followed its own run, or None.
        MIA_then: MIA of that audit, or None.
        UA_retrained: UA of the retrained model on its samples, or None.
        MIA_retrained: MIA of the retrained model on its samples, or None.
        came_back: Whether the model recognises its samples again.
        reason: A sentence that says by which numbers, or empty.
        receipt: Id of its receipt, or empty.
        record: Hash of its run's record, or empty.
        not_shown: Whether its own audit does not show that it is forgotten. None if that is not known.
    """

    number: int
    request: str
    scenario: str
    goal: str
    samples: int
    scored: Literal["training", "test", ""]
    UA: float | None
    MIA: float | None
    UA_then: float | None = None
    MIA_then: float | None = None
    UA_retrained: float | None = None
    MIA_retrained: float | None = None
    came_back: bool = False
    reason: str = ""
    receipt: str = ""
    record: str = ""
    not_shown: bool | None = None


def audit_earlier(
    evaluation: Evaluation, retrained: Evaluation | None = None, *, tolerance: float = TOLERANCE
) -> list[EarlierScores]:
    """Score every earlier request of an evaluated model.

    A request came back if its samples are recognised more than `tolerance` points better than allowed, and chance does not
    explain it (1 %: binomial test, and for the test set also the sampling error of both accuracies). Allowed is the highest of
    three accuracies: that of the request's own audit, that of the retrained model, and, if only the influence of the samples
    was to be removed, that on the test set.

    Args:
        evaluation: The evaluation of the later model.
        retrained: The evaluation of the model retrained without all requests.
        tolerance: Tolerance in points, default 2.

    Returns:
        One entry per request, in their order. A request whose samples are gone from the data has no scores.

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
        entry["UA_change"] = _change(entry["UA"], entry["UA_then"])
        entry["MIA_change"] = _change(entry["MIA"], entry["MIA_then"])
    return entries


def _change(now: float | None, then: float | None) -> float | None:
    return None if now is None or then is None else now - then


def _scored(evaluation: Evaluation, retrained: Evaluation | None, tolerance: float) -> list[dict[str, Any]]:
    """Return the fields of `EarlierScores` of each earlier request."""
    if not evaluation.split.earlier or evaluation.earlier is None:
        return []
    entries, test = _entries(evaluation), evaluation.test.accuracy
    own = _of_each(evaluation)
    again = (
        [(None, None)] * len(entries)
        if retrained is None or retrained.earlier is None
        else _of_each(retrained)
    )
    for entry, (UA, MIA), (UA_again, MIA_again) in zip(entries, own, again, strict=True):
        entry |= {"UA": UA, "MIA": MIA, "UA_retrained": UA_again, "MIA_retrained": MIA_again}
    for at in _better_than_chance(entries, test, len(evaluation.test.labels), tolerance):
        entries[at] |= {"came_back": True, "reason": _reason(entries[at], test)}
    return entries


def _entries(evaluation: Evaluation) -> list[dict[str, Any]]:
    """Return the fields of `EarlierScores` that need no predictions, for each earlier request."""
    return [
        {
            "number": at,
            "request": entry.past.request,
            "scenario": entry.past.scenario,
            "goal": entry.past.goal,
            "samples": entry.test_count if entry.is_scored_by_test else entry.count,
            "scored": "test" if entry.is_scored_by_test else "training" if entry.count else "",
            "UA_then": entry.past.scores.get("UA"),
            "MIA_then": entry.past.scores.get("MIA"),
            "came_back": False,
            "reason": "",
            "receipt": entry.past.receipt,
            "record": entry.past.record,
            "not_shown": entry.past.not_shown,
        }
        for at, entry in enumerate(evaluation.split.earlier, 1)
    ]


def _of_each(evaluation: Evaluation) -> list[tuple[float | None, float | None]]:
    """Return (UA, MIA) in percent for each earlier request. Each is None where there are no samples to measure it on."""
    entries, predictions, of_test = evaluation.split.earlier, evaluation.earlier, evaluation.earlier_test
    own = [e.count for e in entries]
    known: list[float | None] = _percent(predictions.correct.numpy(), own)
    # one attack for all requests: it is fitted on the same members and non-members
    attacked = _percent(evaluation.called_nonmember(predictions), own) if any(own) else known
    if of_test is not None:
        # the model never saw test samples: an attack on them says nothing
        tested = [e.test_count if e.is_scored_by_test else 0 for e in entries]
        of_classes = _percent(of_test.correct.numpy(), tested)
        known = [a if b is None else b for a, b in zip(known, of_classes, strict=True)]
    return [(None if k is None else 100 - k, m) for k, m in zip(known, attacked, strict=True)]


def _percent(which: np.ndarray, sizes: Sequence[int]) -> list[float | None]:
    """Return the percentage of true values (n,) in each of several parts, one after the other; None for an empty part."""
    counts = np.array(sizes)
    if not counts.any():
        return [None] * len(counts)
    # sums over all requests at once, as there may be thousands
    starts = (np.cumsum(counts) - counts)[counts > 0]
    sums = np.add.reduceat(np.asarray(which, dtype=np.float64), starts)
    shares = iter((100 * sums / counts[counts > 0]).tolist())
    return [next(shares) if count else None for count in sizes]


def _better_than_chance(
    entries: Sequence[dict[str, Any]], test: float, test_count: int, tolerance: float
) -> list[int]:
    """Return the positions of the requests that are recognised better than allowed, and not by chance.

    The accuracy on the test set is that of other samples, so the difference of both shares must also be larger than its sampling
    error. The other allowed accuracies are of the same samples, or known.
    """
    columns = ("UA", "UA_then", "UA_retrained", "samples")
    # what is unknown is NaN, and does not count
    now, then, again, count = (np.array([e[c] for e in entries], dtype=np.float64) for c in columns)
    of_test = np.array([test if e["goal"] == "untrain" else np.nan for e in entries])
    own = np.fmax(100 - then, 100 - again)
    most = np.fmax(own, of_test)
    by_test = (most == of_test) & ~(own >= of_test)
    most = np.nan_to_num(most, nan=0.0)
    accuracy = 100 - now
    above = np.flatnonzero(accuracy - most > tolerance)
    right = np.rint(accuracy * count / 100)[above]
    # the probability of `right` or more among all samples
    chance = bdtrc(right - 1, count[above].astype(int), np.minimum(most[above] / 100, 1.0))
    size, other, level = count[above], max(test_count, 1), most[above] / 100
    pooled = (right + other * level) / (size + other)
    error = NORMAL * np.sqrt(pooled * (1 - pooled) * (1 / size + 1 / other)) + 0.5 / size + 0.5 / other
    beyond = ~by_test[above] | (right / size - level > error)
    return above[(chance <= SIGNIFICANCE) & beyond].tolist()


def _reason(scores: dict[str, Any], test: float) -> str:
    """Return why the samples of a request count as learned again."""
    allowed = {
        "in its own audit": None if scores["UA_then"] is None else 100 - scores["UA_then"],
        "under the retrained model": None if scores["UA_retrained"] is None else 100 - scores["UA_retrained"],
        "on the test set": test if scores["goal"] == "untrain" else None,
    }
    known = {name: value for name, value in allowed.items() if value is not None}
    place, most = max(known.items(), key=lambda item: item[1], default=("if the class is unknown", 0.0))
    samples = "test samples of the classes" if scores["scored"] == "test" else "samples"
    return (
        f"the accuracy on the {scores['samples']:,} {samples} of request {scores['number']} is {100 - scores['UA']:.1f} %, and at most "
        f"{most:.1f} % ({place}) is allowed; run the request again."
    )


def not_scored(earlier: Sequence[dict[str, Any]]) -> list[str]:
    """Return which requests were not scored on their own samples, as the data no longer has them, one sentence for each kind."""
    gone = [str(e["number"]) for e in earlier if not e["scored"]]
    tested = [str(e["number"]) for e in earlier if e["scored"] == "test"]
    sentences = []
    if gone:
        sentences.append(
            f"{_listed(gone)} not audited any more: the data no longer has {'its' if len(gone) == 1 else 'their'} samples."
        )
    if tested:
        sentences.append(
            f"{_listed(tested)} audited on test samples only: the data no longer has training samples of the classes."
        )
    return sentences


def _listed(numbers: Sequence[str]) -> str:
    if len(numbers) == 1:
        return f"The other request {numbers[0]} is"
    more = f" and {len(numbers) - SHOWN:,} more" if len(numbers) > SHOWN else ""
    return f"The other requests {', '.join(numbers[:SHOWN])}{more} are"
