"""GA: ascend the training loss on the forget set.

Thudi et al., "Unrolling SGD", EuroS&P 2022 (arXiv:2109.13398); settings as in SalUn's released code (arXiv:2310.12508):
5 epochs, rate searched in [1e-5, 1e-3]. The objective is minus the cross-entropy, unbounded below: `max_drop` ends a
run that destroys the model (ours; set it to 100 for the published behaviour). Tuning goes above the published range: on
small data its few steps would move nothing.
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
    """GA: gradient ascent on the forget set."""

    epochs: int = 5
    lr: float = 1e-4

    search: ClassVar = {"lr": (1e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2)}
    schedule: ClassVar = "forget"

    def loss(self, run: Run, forget: Batch | None, retain: Batch | None) -> Tensor:
        assert forget is not None
        return -run.task.loss(run.model, forget).mean()
