"""Boundary expand: move the forget set into a class of its own, then take that class away.

Chen, Gao, Liu, Xu, Wang, CVPR 2023, arXiv:2303.11570 (section 4.3); settings as in SalUn's baselines
(arXiv:2310.12508): 10 epochs, rate in [1e-6, 1e-4].

Published: a new output unit K is added to the head, all weights are trained on the forget set with label K,
and the unit is removed at the end (the released baseline leaves it there, so that its probabilities are
(K+1)-way). Ours: the unit lives beside the model, reading the head's input, so the model, its masks and its
checkpoints keep their shape and removal is doing nothing. It starts as a fresh linear unit and moves by SGD
with the method's momentum and weight decay and the optimizer's current rate, whichever optimizer the model
has; it is outside of `density` and `clip`. Tuning goes above the published range: on small data its few steps
would move nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.optim import Optimizer

from ..data.batch import Batch
from ..errors import ExpungeError
from ..training.method import GradientMethod
from ..training.run import Run


@dataclass(frozen=True, kw_only=True)
class BoundaryExpand(GradientMethod):
    """Boundary expand: forget samples move into an extra class that is then removed."""

    lr: float = 1e-4

    needs: ClassVar = ("logits", "features", "head")
    data: ClassVar = ("forget",)
    search: ClassVar = {"lr": (1e-6, 1e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2)}
    schedule: ClassVar = "forget"

    def prepare(self, run: Run) -> None:
        if run.compute.amp == "fp16":
            raise ExpungeError(
                "boundary_expand has a unit outside of the model, whose gradient fp16 leaves scaled; "
                "use amp bf16 or off."
            )
        width = run.task.head(run.model)[1].in_features
        unit = 2 * torch.rand(width + 1, generator=run.generator("unit")) - 1  # weights, then the bias
        run.memo["unit"] = (unit / width**0.5).to(run.device)
        run.memo["speed"] = torch.zeros_like(run.memo["unit"])

    def loss(self, run: Run, forget: Batch | None, retain: Batch | None) -> Tensor:
        assert forget is not None
        unit = run.memo["unit"].requires_grad_(True)
        features, logits = run.task.with_features(run.model, forget.x)
        extra = features @ unit[:-1].to(features) + unit[-1]
        wide = torch.cat([logits, extra[:, None].to(logits)], 1)  # (B, K + 1)
        return F.cross_entropy(wide, torch.full_like(forget.y, logits.shape[1]))

    @torch.no_grad()
    def after_step(self, run: Run, optimizer: Optimizer) -> None:
        unit, speed = run.memo["unit"].detach(), run.memo["speed"]
        slope = run.memo["unit"].grad
        slope = run.team.sum(torch.zeros_like(unit) if slope is None else slope)
        speed.mul_(self.momentum).add_(slope + self.weight_decay * unit)
        run.memo["unit"] = unit - optimizer.param_groups[0]["lr"] * speed
