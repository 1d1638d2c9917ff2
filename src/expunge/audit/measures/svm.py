"""SVM: the five membership scores of SalUn's released code, by their names there.

Each score fits `SVC(C=3, gamma="auto", kernel="rbf")` to one output of the model on retain samples (members) and test
samples (non-members), and gives the share of the forget set that it calls non-member. On one model they can differ by
95 points. SalUn's tables, and the score MIA here, use "confidence". A score is good if it is close to Retrain's.

Published (arXiv:2310.12508): "MIA". The other four are as in the released code. That includes its `m_entropy`, which is
not the modified entropy of Song and Mittal: it replaces p by 1 - p in the column of every class that occurs in the set,
for all samples, and takes the logarithm of p everywhere. `MIA_entropy` of the standard audit uses the right formula.
Ours: members and non-members are drawn at random, as those of MIA, unless `first` is true.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from ...tasks.predictions import Predictions
from ...tasks.task import Task
from ..evaluation import Evaluation
from ..measure import Measure
from ..mia import UNDECIDED, members_and_nonmembers
from ..svm1d import fit_svm

# The penalty of the SVM, and the smallest probability in a logarithm.
C = 3.0
LEAST = 1e-30


@dataclass(frozen=True)
class SVM(Measure):
    """Compute the five SVM scores of SalUn's released code.

    Args:
        first: Take the first samples in data order as members and non-members, as the released code does.
    """

    first: bool = False

    name = "SVM"
    glossary = "Shares of the forget set that five membership attacks call non-member, as in the released code of SalUn."
    needs = ("logits",)
    parts: ClassVar = {
        "correctness": "Share of the forget set that an SVM on being right or wrong calls non-member.",
        "confidence": "Share of the forget set that an SVM on the true-class confidence calls non-member: the headline MIA.",
        "entropy": "Share of the forget set that an SVM on the entropy of the prediction calls non-member.",
        "m_entropy": "Share that an SVM on SalUn's m_entropy calls non-member; it is not the modified entropy.",
        "prob": "Share of the forget set that an SVM on all class probabilities calls non-member.",
    }

    def compute(
        self,
        unlearned: Evaluation,
        original: Evaluation | None,
        retrained: Evaluation | None,
        task: Task,
    ) -> dict[str, float | None]:
        """Return the five shares in percent."""
        retain, test = unlearned.retain, unlearned.test
        member, nonmember = members_and_nonmembers(
            len(retain.labels), len(test.labels), seed=unlearned.seed, paper_exact=self.first
        )

        def share(output: Callable[[Predictions], Tensor]) -> float:
            inside, outside = output(retain).numpy()[member], output(test).numpy()[nonmember]
            return 100 * float(called_nonmember(inside, outside, output(unlearned.forget).numpy()).mean())

        return {part: share(output) for part, output in OUTPUTS.items()}


def entropy(p: Predictions) -> Tensor:
    """Return the entropy of each prediction (n,), in nats."""
    return torch.special.entr(p.probabilities).sum(1)


def m_entropy(p: Predictions) -> Tensor:
    """Return `m_entropy` (n,) of the released code: minus the sum of q log p.

    q is 1 - p in the columns of all classes that occur in the labels of the set, and p in the others.
    """
    shares = p.probabilities
    occurs = torch.zeros(shares.shape[1], dtype=torch.bool)
    occurs[p.labels] = True
    return -(torch.where(occurs, 1 - shares, shares) * shares.clamp(min=LEAST).log()).sum(1)


OUTPUTS: dict[str, Callable[[Predictions], Tensor]] = {
    "correctness": lambda p: p.correct.double(),
    "confidence": lambda p: p.confidence,
    "entropy": entropy,
    "m_entropy": m_entropy,
    "prob": lambda p: p.probabilities,
}


def called_nonmember(member: np.ndarray, nonmember: np.ndarray, target: np.ndarray) -> Any:
    """Return which rows of `target` the released SVM calls non-member, bool (k,).

    Args:
        member: Output (n,) or (n, d) of the model on members.
        nonmember: Output (m,) or (m, d) on non-members.
        target: Output (k,) or (k, d) on the samples to classify.

    Returns:
        For one number per sample, the answer of the exact solver (`svm1d.py`), and of scikit-learn's for several.
    """
    if member.ndim == 1:
        values = np.concatenate([member, nonmember, target])
        low, high = float(values.min()), float(values.max())
        return fit_svm(member, nonmember, low, high, C, 1.0).decide(target) < -UNDECIDED
    from sklearn.svm import SVC

    svc = SVC(C=C, gamma="auto", kernel="rbf")
    svc.fit(np.concatenate([member, nonmember]), np.repeat([1, 0], [len(member), len(nonmember)]))
    return svc.predict(target) == 0
