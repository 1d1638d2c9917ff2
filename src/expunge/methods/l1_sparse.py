"""l1-sparse: fine-tune on the retain set with a penalty on the absolute weights that fades out.

Jia, Liu, Ram, Yao, Liu, Liu, Sharma, Liu, "Model Sparsity Can Simplify Machine Unlearning", NeurIPS 2023,
arXiv:2304.04934; settings as in SalUn's released code (arXiv:2310.12508): 10 epochs, rate in [1e-3, 1e-1],
penalty in [1e-6, 1e-4].

Published: CE(retain) + a_t |theta|_1 over all weights, a_t = a (1 - t / (E - e0)) in epoch t of E, 0 in the
last e0 ones. The subgradient is taken; in spite of the name nothing is pruned.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ..data.batch import Batch
from ..training.method import GradientMethod
from ..training.run import Run


@dataclass(frozen=True, kw_only=True)
class L1Sparse(GradientMethod):
    """l1-sparse: fine-tuning on the retain set with a fading l1 penalty."""

    penalty: float = 1e-4  # a: weight of the sum of absolute weights in the first epoch
    free_epochs: int = 0  # e0: last epochs without the penalty

    data: ClassVar = ("retain",)
    search: ClassVar = {"lr": (1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2, 1e-1), "penalty": (1e-6, 1e-5, 1e-4, 5e-4)}
    schedule: ClassVar = "retain"

    def loss(self, run: Run, forget: Batch | None, retain: Batch | None) -> Tensor:
        assert retain is not None
        value = run.task.loss(run.model, retain).mean()
        strength = self.strength(run.epoch)
        if strength:
            value = value + strength * torch.stack([p.abs().sum() for p in run.model.parameters()]).sum()
        return value

    def strength(self, epoch: int) -> float:
        """a_t."""
        last = self.epochs - self.free_epochs
        return self.penalty * (1 - epoch / last) if epoch < last else 0.0

    def problems(self) -> list[str]:
        found = super().problems()
        if self.penalty < 0:
            found.append(f"penalty is {self.penalty}; it must be at least 0.")
        if not 0 <= self.free_epochs <= self.epochs:
            found.append(f"free_epochs is {self.free_epochs}; it runs from 0 to epochs, {self.epochs}.")
        return found
