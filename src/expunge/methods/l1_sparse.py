"""l1-sparse: fine-tune on the retain set with an l1 penalty that fades out.

    loss = CE(retain) + a_t * |theta|_1,    a_t = a * (1 - t / (E - e0)) in epoch t of E

The sum runs over all weights. In the last e0 epochs a_t is 0.

Source: Jia, Liu, Ram, Yao, Liu, Liu, Sharma, Liu, "Model Sparsity Can Simplify Machine Unlearning", NeurIPS 2023,
arXiv:2304.04934.

Published: the loss. The settings come from SalUn's released code (arXiv:2310.12508): 10 epochs, a learning rate in
[1e-3, 1e-1] and a penalty in [1e-6, 1e-4].

Despite its name the method prunes nothing: each step follows the subgradient of the penalty.

Cost: One pass over the retain set for each epoch, and one sum over all weights for each step.

When not to use it: Few epochs must do, or the weights are on very different scales: the penalty pulls all of
them alike. As with FT, nothing pushes the forget set out.
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
    """Fine-tune on the retain set with a fading l1 penalty (l1-sparse).

    Args:
        penalty: a, the factor on the sum of absolute weights in the first epoch.
        free_epochs: e0, the number of last epochs without the penalty.
    """

    penalty: float = 1e-4
    free_epochs: int = 0

    published: ClassVar = {}
    data: ClassVar = ("retain",)
    search: ClassVar = {"lr": (1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2, 1e-1), "penalty": (1e-6, 1e-5, 1e-4, 5e-4)}
    schedule: ClassVar = "retain"

    def loss(self, run: Run, forget: Batch | None, retain: Batch | None) -> Tensor:
        """Return the retain loss plus the penalty of the current epoch."""
        assert retain is not None
        loss = run.task.loss(run.model, retain).mean()
        strength = self.strength(run.epoch)
        if strength:
            loss = loss + strength * torch.stack([p.abs().sum() for p in run.model.parameters()]).sum()
        return loss

    def strength(self, epoch: int) -> float:
        """Return a_t, the factor on the penalty in this epoch."""
        penalized_epochs = self.epochs - self.free_epochs
        return self.penalty * (1 - epoch / penalized_epochs) if epoch < penalized_epochs else 0.0

    def problems(self) -> list[str]:
        problems = super().problems()
        if self.penalty < 0:
            problems.append(f"penalty is {self.penalty}; it must be at least 0.")
        if not 0 <= self.free_epochs <= self.epochs:
            problems.append(
                f"free_epochs is {self.free_epochs}; it must be from 0 to the number of epochs, {self.epochs}."
            )
        return problems
