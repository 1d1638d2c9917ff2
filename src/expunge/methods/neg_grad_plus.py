"""NegGrad+: descend on the retain set and ascend on the forget set in the same step.

Kurmanji, Triantafillou, Hayes, Triantafillou, "Towards Unbounded Machine Unlearning", NeurIPS 2023,
arXiv:2302.09880 (section 4, baseline). Published: beta * CE(retain) - (1 - beta) * CE(forget), an epoch is a
pass over the retain set with the forget set cycling beside it. Ours: the default beta of 0.95 (their
notebooks use 0.95 to 0.9999, by data set); the ascent is unbounded, so gradients are clipped, and a run
that ends more than `max_drop` lower is taken back to its last good state.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from ..data.batch import Batch
from ..training.method import GradientMethod
from ..training.run import Run


@dataclass(frozen=True, kw_only=True)
class NegGradPlus(GradientMethod):
    """NegGrad+: descent on the retain set beside ascent on the forget set."""

    epochs: int = 5
    retain_share: float = 0.95  # beta: weight of the retain term
    clip: float | None = 1.0

    search: ClassVar = {"lr": (1e-3, 3e-3, 1e-2, 3e-2, 1e-1), "retain_share": (0.8, 0.9, 0.95, 0.99, 0.999)}
    schedule: ClassVar = "retain+forget"

    def loss(self, run: Run, forget: Batch | None, retain: Batch | None) -> Tensor:
        assert forget is not None and retain is not None
        keep = run.task.loss(run.model, retain).mean()
        lose = run.task.loss(run.model, forget).mean()
        return self.retain_share * keep - (1 - self.retain_share) * lose

    def problems(self) -> list[str]:
        found = super().problems()
        if not 0 <= self.retain_share <= 1:
            found.append(f"retain_share is {self.retain_share}; it is a weight from 0 to 1.")
        return found
