"""GA: increase the training loss on the forget set by gradient ascent.

    loss = -CE(forget),    or with a bound    loss = max(0, bound - CE(forget))

Source: Thudi et al., "Unrolling SGD", EuroS&P 2022, arXiv:2109.13398. The bounded form is a part of BID-LoRA, a method for
continual learning, whose code uses a bound of 100 beside other terms.

Published: the settings, from SalUn's released code (arXiv:2310.12508). These are 5 epochs and a learning rate searched
in [1e-5, 1e-3].

Ours:
- The loss has no lower bound, so `max_drop` ends a run that destroys the model. Set `max_drop=100` for the published
  behaviour.
- The bound holds for each sample, so a sample that reached it takes no further part. A sensible bound is the loss at chance,
  ln K for K classes.
- Tuning also tries learning rates above the published range. On small data the few steps would otherwise change nothing.

Cost: One pass over the forget set for each epoch. Only evaluations read retain samples.

When not to use it: The model has to stay useful without a check: the loss has no lower bound, and a slightly
larger rate destroys the model. Set `bound`, or take a method with a retain term. With its defaults on digits,
one of two seeds ended with MIA 0 for a forgotten class (docs/defaults.md).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from ..data.batch import Batch
from ..training.method import GradientMethod
from ..training.run import Run


@dataclass(frozen=True, kw_only=True)
class GradientAscent(GradientMethod):
    """Ascend the loss on the forget set (GA).

    Args:
        epochs: Number of passes over the forget set.
        lr: Learning rate.
        bound: Loss at which a sample stops to contribute, above 0. None for no bound.
    """

    epochs: int = 5
    lr: float = 1e-4
    bound: float | None = None

    published: ClassVar = {"max_drop": 100.0}
    search: ClassVar = {"lr": (1e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2)}
    schedule: ClassVar = "forget"

    def loss(self, run: Run, forget: Batch | None, retain: Batch | None) -> Tensor:
        """Return minus the mean loss on the forget batch, or how far its samples are below the bound."""
        assert forget is not None
        losses = run.task.loss(run.model, forget)
        return -losses.mean() if self.bound is None else (self.bound - losses).clamp_min(0).mean()

    def problems(self) -> list[str]:
        problems = super().problems()
        if self.bound is not None and not 0 < self.bound < math.inf:
            problems.append(f"bound is {self.bound}; it is a loss and must be above 0, or None for no bound.")
        return problems
