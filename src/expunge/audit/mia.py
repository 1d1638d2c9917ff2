"""Membership-inference attacks on scores: arrays in, percentages out.

An attack is fitted on members (retained training samples) and non-members (test samples) of the same model,
and asked about the forget set. "MIA" of the field's tables is the share of the forget set that it calls
non-member: the closer to Retrain's, the better; higher is not better.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import numpy as np

from ..errors import ExpungeError
from .svm1d import fit, libsvm

Scores: TypeAlias = np.ndarray
UNDECIDED = 1e-9  # a decision this near 0 is none: the machine has found no difference, and says member


def members_and_nonmembers(
    members: int, nonmembers: int, *, seed: int = 0, paper_exact: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Positions of equally many members and non-members, drawn at random.

    `paper_exact` takes the first ones in data order, as SalUn's released code does.
    """
    size = min(members, nonmembers)
    if paper_exact:
        return np.arange(size), np.arange(size)
    draw = np.random.default_rng(seed)
    return np.sort(draw.permutation(members)[:size]), np.sort(draw.permutation(nonmembers)[:size])


def svm_attack(
    member: Scores,
    nonmember: Scores,
    target: Scores,
    *,
    C: float = 3.0,
    gamma: float = 1.0,
    solver: Literal["one_dimensional", "sklearn"] = "one_dimensional",
) -> float:
    """Percent of `target` that a support vector machine calls non-member: the field's MIA (SalUn,
    arXiv:2310.12508).

    Scores (n,) in [0, 1] are true-class confidences. Published: scikit-learn's SVC(C=3, gamma="auto",
    kernel="rbf") on one feature, so gamma is 1. `solver="one_dimensional"` finds the same machine
    (`svm1d.py`; above a gamma of 144 it is scikit-learn's, too); predictions differ only where libsvm's own
    stopping tolerance leaves them open. Raises
    `ExpungeError` for empty, NaN or out-of-range scores.
    """
    parts = {
        n: np.asarray(v, np.float64)
        for n, v in (("member", member), ("nonmember", nonmember), ("target", target))
    }
    if wrong := [
        n
        for n, v in parts.items()
        if not v.size or not np.isfinite(v).all() or v.min() < -1e-9 or v.max() > 1 + 1e-9
    ]:
        raise ExpungeError(
            f"the {' and '.join(wrong)} scores are empty, not finite, or outside [0, 1]; "
            "give true-class confidences."
        )
    if solver == "sklearn":
        machine = libsvm(parts["member"], parts["nonmember"], C, gamma).machine
        return 100 * float((machine.predict(parts["target"][:, None]) == 0).mean())
    decision = fit(parts["member"], parts["nonmember"], 0.0, 1.0, C, gamma).decide(parts["target"].clip(0, 1))
    return 100 * float((decision < -UNDECIDED).mean())


def threshold_attack(member: Scores, nonmember: Scores, target: Scores) -> float:
    """Percent of `target` called non-member by the threshold with the best balanced accuracy; members score
    higher.

    Yeom et al., CSF 2018; the sweep of Song & Mittal, USENIX Security 2021. Of equally good thresholds the
    lowest is taken, so that scores without any difference are called members.
    """
    return 100 * float((np.asarray(target) < best_threshold(member, nonmember)).mean())


def best_threshold(member: Scores, nonmember: Scores) -> float:
    """The threshold of `threshold_attack`: a score below it is a non-member's."""
    cut = np.unique(np.concatenate([member, nonmember]))
    caught = np.searchsorted(np.sort(nonmember), cut, side="left") / len(nonmember)
    kept = 1 - np.searchsorted(np.sort(member), cut, side="left") / len(member)
    return float(cut[np.argmax(caught + kept)])


def modified_entropy(probabilities: np.ndarray, labels: np.ndarray) -> Scores:
    """Modified entropy (n,): -(1 - p_y) log p_y - sum over other classes of p_j log(1 - p_j), low for
    members.

    Song & Mittal, USENIX Security 2021 (arXiv:2003.10595), equation 8. SalUn's released code indexes whole
    columns here and takes log p_j; its figure of this name is another quantity.
    """
    p = np.asarray(probabilities, np.float64)
    rows = np.arange(len(labels))
    # 1 - p_j as the sum of the others, before and after it: near p_j = 1 a difference would lose every digit
    rest = np.zeros_like(p)
    rest[:, 1:] += p.cumsum(1)[:, :-1]
    rest[:, :-1] += p[:, ::-1].cumsum(1)[:, ::-1][:, 1:]
    others = p * np.log(np.clip(rest, 1e-300, 1))
    others[rows, labels] = 0.0
    return -rest[rows, labels] * np.log(np.clip(p[rows, labels], 1e-300, 1)) - others.sum(1)


def auc(positive: Scores, negative: Scores) -> float:
    """Probability that a positive scores above a negative, ties counted half: the area under the ROC curve,
    exactly.
    """
    order = np.sort(np.asarray(negative))
    below = np.searchsorted(order, positive, side="left").astype(np.float64)
    ties = np.searchsorted(order, positive, side="right") - below
    return float((below + ties / 2).mean() / len(order))


def tpr_at_fpr(positive: Scores, negative: Scores, fpr: float) -> float:
    """The largest true-positive rate of a threshold whose false-positive rate is at most `fpr` (both in [0,
    1]).

    Carlini et al., S&P 2022 (arXiv:2112.03570): what an attack can say with few false alarms.
    """
    allowed = int(np.floor(fpr * len(negative) + 1e-12))
    order = np.sort(np.asarray(negative))[::-1]
    if allowed >= len(order):
        return 1.0
    return float((np.asarray(positive) > order[allowed]).mean())
