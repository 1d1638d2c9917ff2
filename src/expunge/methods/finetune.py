"""FT: go on training on the retain set and let the model forget the rest by itself.

The baseline of Golatkar et al. (CVPR 2020) and Warnecke et al. (2021); settings as in SalUn's released code
(arXiv:2310.12508, section 5): 10 epochs, rate searched in [1e-3, 1e-1], example 0.01.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from ..data.batch import Batch
from ..training.method import GradientMethod
from ..training.run import Run


@dataclass(frozen=True, kw_only=True)
class FineTune(GradientMethod):
    """FT: fine-tune on the retain set."""

    data: ClassVar = ("retain",)
    search: ClassVar = {"lr": (1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2, 1e-1)}
    schedule: ClassVar = "retain"

    def loss(self, run: Run, forget: Batch | None, retain: Batch | None) -> Tensor:
        assert retain is not None
        return run.task.loss(run.model, retain).mean()
