"""Attack one model with membership inference on its scores.

An attack is fitted on members (training samples in the retain set) and non-members (test samples) of the same model.
It then classifies the forget set. The field's tables call the share that it classifies as non-member "MIA". A model
is good if its MIA is close to Retrain's. A higher MIA is not better.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import numpy as np

from ..errors import ExpungeError
from .svm1d import fit_libsvm, fit_svm

Scores: TypeAlias = np.ndarray

# A decision value this close to 0 means that the SVM found no difference. The sample then counts as a member.
UNDECIDED = 1e-9


def members_and_nonmembers(
    members: int, nonmembers: int, *, seed: int = 0, paper_exact: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Choose equally many members and non-members.

    Args:
        members: Number of members to choose from.
        nonmembers: Number of non-members to choose from.
        seed: Seed of the random choice.
        paper_exact: Take the first samples in data order, as SalUn's released code does.

    Returns:
        Sorted positions of the chosen members, and of the chosen non-members.
    """
    size = min(members, nonmembers)
    if paper_exact:
        return np.arange(size), np.arange(size)
    generator = np.random.default_rng(seed)
    return np.sort(generator.permutation(members)[:size]), np.sort(generator.permutation(nonmembers)[:size])


def svm_attack(
    member: Scores,
    nonmember: Scores,
    target: Scores,
    *,
    C: float = 3.0,
    gamma: float = 1.0,
    solver: Literal["one_dimensional", "sklearn"] = "one_dimensional",
) -> float:
    """Return the percentage of `target` that a support vector machine classifies as non-member.

    This is the field's MIA. The published form is scikit-learn's `SVC(C=3, gamma="auto", kernel="rbf")` on one feature,
    for which `gamma="auto"` is 1.

    Args:
        member: True-class confidences (n,) of members, in [0, 1].
        nonmember: True-class confidences (m,) of non-members, in [0, 1].
        target: True-class confidences (k,) of the samples to classify, in [0, 1].
        C: Penalty of the SVM.
        gamma: Width parameter of the RBF kernel.
        solver: "one_dimensional" uses `svm1d.py`, which solves the same problem. "sklearn" is the literal published
            form. Both agree except where libsvm's stopping tolerance leaves the decision open.

    Returns:
        Percentage of `target`, 0 to 100.

    Raises:
        ExpungeError: If scores are empty, not finite, or outside [0, 1].

    Source: SalUn, arXiv:2310.12508, section 6.
    """
    called = svm_calls_nonmember(member, nonmember, target, C=C, gamma=gamma, solver=solver)
    return 100 * float(called.mean())


def svm_calls_nonmember(
    member: Scores,
    nonmember: Scores,
    target: Scores,
    *,
    C: float = 3.0,
    gamma: float = 1.0,
    solver: Literal["one_dimensional", "sklearn"] = "one_dimensional",
) -> np.ndarray:
    """Return which samples of `target` the attack of `svm_attack` classifies as non-member, bool (k,).

    Arguments and errors are those of `svm_attack`.
    """
    named = (("member", member), ("nonmember", nonmember), ("target", target))
    scores = {name: np.asarray(values, np.float64) for name, values in named}
    invalid = [
        name
        for name, values in scores.items()
        if not values.size or not np.isfinite(values).all() or values.min() < -1e-9 or values.max() > 1 + 1e-9
    ]
    if invalid:
        raise ExpungeError(
            f"the {' and '.join(invalid)} scores are empty, not finite, or outside [0, 1]; "
            "give true-class confidences."
        )
    if solver == "sklearn":
        svm = fit_libsvm(scores["member"], scores["nonmember"], C, gamma).svc
        return svm.predict(scores["target"][:, None]) == 0
    svm = fit_svm(scores["member"], scores["nonmember"], 0.0, 1.0, C, gamma)
    return svm.decide(scores["target"].clip(0, 1)) < -UNDECIDED


def threshold_attack(member: Scores, nonmember: Scores, target: Scores) -> float:
    """Return the percentage of `target` that the best threshold classifies as non-member.

    The best threshold has the highest balanced accuracy on members and non-members. If several are equally good, the
    lowest one is used, so scores that show no difference count as members.

    Args:
        member: Scores (n,) of members. Members are expected to score higher.
        nonmember: Scores (m,) of non-members.
        target: Scores (k,) of the samples to classify.

    Returns:
        Percentage of `target`, 0 to 100.

    Source: Yeom et al., CSF 2018; the sweep over thresholds is from Song and Mittal, USENIX Security 2021.
    """
    return 100 * float((np.asarray(target) < best_threshold(member, nonmember)).mean())


def best_threshold(member: Scores, nonmember: Scores) -> float:
    """Return the threshold of `threshold_attack`: a sample that scores below it is classified as non-member."""
    thresholds = np.unique(np.concatenate([member, nonmember]))
    caught = np.searchsorted(np.sort(nonmember), thresholds, side="left")
    lost = np.searchsorted(np.sort(member), thresholds, side="left")
    # whole numbers: rounded shares would decide which of several equally good thresholds is the first
    return float(thresholds[np.argmax(caught * len(member) - lost * len(nonmember))])


def modified_entropy(probabilities: np.ndarray, labels: np.ndarray) -> Scores:
    """Return the modified entropy of each sample. It is low for members.

    The value is -(1 - p_y) log p_y - sum over j != y of p_j log(1 - p_j). SalUn's released code indexes whole columns
    here and takes log p_j, so its figure of the same name is another quantity.

    Args:
        probabilities: Class probabilities (n, K).
        labels: True classes (n,).

    Returns:
        Modified entropy (n,), in nats.

    Source: Song and Mittal, USENIX Security 2021, arXiv:2003.10595, equation 8.
    """
    p = np.asarray(probabilities, np.float64)
    rows = np.arange(len(labels))
    # 1 - p_j is computed as the sum of the other probabilities: near p_j = 1 the difference would lose every digit
    rest = np.zeros_like(p)
    rest[:, 1:] += p.cumsum(1)[:, :-1]
    rest[:, :-1] += p[:, ::-1].cumsum(1)[:, ::-1][:, 1:]
    others = p * np.log(np.clip(rest, 1e-300, 1))
    others[rows, labels] = 0.0
    return -rest[rows, labels] * np.log(np.clip(p[rows, labels], 1e-300, 1)) - others.sum(1)
