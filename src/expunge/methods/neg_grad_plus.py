"""NegGrad+: descend on the retain set and ascend on the forget set in the same step.

    loss = beta * CE(retain) - (1 - beta) * CE(forget)

An epoch is one pass over the retain set. A forget batch accompanies every retain batch; the forget set repeats as often
as needed.

Source: Kurmanji, Triantafillou, Hayes, Triantafillou, "Towards Unbounded Machine Unlearning", NeurIPS 2023,
arXiv:2302.09880 (section 4, baseline).

Published: the loss and the schedule. The authors' notebooks use beta from 0.95 to 0.9999, depending on the data set.

Ours:
- The default beta is 0.95.
- The ascent has no lower bound, so gradients are clipped. A run that ends with a larger drop than `max_drop` rolls back
  to its last good state.

Cost: One pass over the retain set for each epoch, with as many forget samples beside it.

When not to use it: There is no validation set: the ascent has no lower bound, and only `max_drop` ends it. With
its defaults on digits, one of two seeds ended with MIA 0 for a forgotten class (docs/defaults.md).
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
    """Descend on the retain set and ascend on the forget set (NegGrad+).

    Args:
        epochs: Number of passes over the retain set.
        retain_share: beta, the weight of the retain loss, from 0 to 1. The forget loss has weight 1 - beta.
        clip: Maximum L2 norm of a step's gradient. None disables clipping.
    """

    epochs: int = 5
    retain_share: float = 0.95
    clip: float | None = 1.0

    published: ClassVar = {"clip": None, "max_drop": 100.0}
    search: ClassVar = {"lr": (1e-3, 3e-3, 1e-2, 3e-2, 1e-1), "retain_share": (0.8, 0.9, 0.95, 0.99, 0.999)}
    schedule: ClassVar = "retain+forget"

    def loss(self, run: Run, forget: Batch | None, retain: Batch | None) -> Tensor:
        """Return beta * retain loss - (1 - beta) * forget loss."""
        assert forget is not None and retain is not None
        retain_loss = run.task.loss(run.model, retain).mean()
        forget_loss = run.task.loss(run.model, forget).mean()
        return self.retain_share * retain_loss - (1 - self.retain_share) * forget_loss

    def problems(self) -> list[str]:
        problems = super().problems()
        if not 0 <= self.retain_share <= 1:
            problems.append(f"retain_share is {self.retain_share}; it must be from 0 to 1.")
        return problems
