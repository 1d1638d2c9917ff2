"""Forgetting rate: how many forget samples turn from members into non-members, for a membership attack.

Liu, Ma, Liu, Liu, Jiang, Ma, Yu, Ren, "Learn to Forget: Machine Unlearning via Neuron Masking", arXiv:2003.10933:
(AF - BF) / BT, where BT and BF are the numbers of forget samples that the attack calls member and non-member before
unlearning, and AF is the number that it calls non-member after. The attack here is the SVM of MIA.
"""

from __future__ import annotations

from ...tasks.task import Task
from ..evaluation import Evaluation
from ..measure import Measure


class ForgettingRate(Measure):
    """Count the forget samples that the attack calls non-member only after unlearning."""

    name = "forgetting_rate"
    glossary = "Share of the forget samples called members before that the attack calls non-members after, net of those lost."

    def compute(
        self,
        unlearned: Evaluation,
        original: Evaluation | None,
        retrained: Evaluation | None,
        task: Task,
    ) -> float | None:
        """Return 100 * (AF - BF) / BT, or None without an original or without a member before."""
        if original is None:
            return None
        before = original.called_nonmember(original.forget)
        after = unlearned.called_nonmember(unlearned.forget)
        members = int((~before).sum())
        return 100 * (int(after.sum()) - int(before.sum())) / members if members else None
