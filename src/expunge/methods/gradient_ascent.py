"""GA: increase the training loss on the forget set by gradient ascent.

    loss = -CE(forget)

Source: Thudi et al., "Unrolling SGD", EuroS&P 2022, arXiv:2109.13398.

Published: the settings, from SalUn's released code (arXiv:2310.12508). These are 5 epochs and a learning rate searched
in [1e-5, 1e-3].

Ours:
- The loss has no lower bound, so `max_drop` ends a run that destroys the model. Set `max_drop=100` for the published
  behaviour.
- Tuning also tries learning rates above the published range. On small data the few steps would otherwise change nothing.
"""

from __future__ import annotations

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
    """

    epochs: int = 5
    lr: float = 1e-4

    published: ClassVar = {"max_drop": 100.0}
    search: ClassVar = {"lr": (1e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2)}
    schedule: ClassVar = "forget"

    def loss(self, run: Run, forget: Batch | None, retain: Batch | None) -> Tensor:
        """Return minus the mean loss on the forget batch."""
        assert forget is not None
        return -run.task.loss(run.model, forget).mean()
