"""Boundary shrink: give each forget sample the label of the nearest other class, found by one adversarial step.

    x' = x + 0.1 * sign(grad_x CE(f0(x), y)),    loss = CE(forget, class that f0 predicts for x')

f0 is the original in eval mode.

Source: Chen, Gao, Liu, Xu, Wang, "Boundary Unlearning: Rapid Forgetting of Deep Networks via Shifting the Decision
Boundary", CVPR 2023, arXiv:2303.11570 (section 4.2).

Published: the step is taken on images in [0, 1] before normalisation; the result is clipped and rounded to 8 bits.
Training uses the forget set alone. The settings come from SalUn's baselines (arXiv:2310.12508): 10 epochs, a learning
rate in [1e-6, 1e-4] and a step of 0.1.

Ours:
- The step may fail to change the predicted class. Then we take the most probable other class of x'; `paper=True`
  keeps the true label.
- Inputs must lie in [0, 1] before the normalisation of the data.
- Tuning also tries learning rates above the published range. On small data the few steps would otherwise change nothing.

Cost: One adversarial step for each forget sample, then one pass over the forget set for each epoch.

When not to use it: Inputs are not images in [0, 1]. Kept accuracy matters and there is no validation set: no
retain sample takes part.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from ..data.batch import Batch
from ..training.method import GradientMethod
from ..training.run import Run
from ._pixels import normalized, pixels_of


@dataclass(frozen=True, kw_only=True)
class BoundaryShrink(GradientMethod):
    """Give forget samples the label of the nearest other class (boundary shrink).

    Args:
        lr: Learning rate.
        bound: Length of the adversarial step per pixel, on the scale from 0 to 1.
        paper: Follow the paper: a sample keeps its true label if the step does not change the predicted class.
    """

    lr: float = 1e-4
    bound: float = 0.1
    paper: bool = False

    published: ClassVar = {"lr": 1e-6}
    needs: ClassVar = ("relabel", "logits")
    data: ClassVar = ("forget",)
    search: ClassVar = {"lr": (1e-6, 1e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2)}
    schedule: ClassVar = "forget"

    def loss(self, run: Run, forget: Batch | None, retain: Batch | None) -> Tensor:
        """Return the cross-entropy of the forget batch with the nearest other classes as labels."""
        assert forget is not None
        return run.task.relabel_loss(run.model, forget, self.nearest(run, forget)).mean()

    def nearest(self, run: Run, batch: Batch) -> Tensor:
        """Return the class (B,) that the original predicts for each sample after the adversarial step.

        Raises:
            ExpungeError: The inputs are not images in [0, 1].
        """
        data = run.split.forget.data
        pixels = pixels_of(data, batch, "boundary_shrink", "boundary_expand or random_label")
        x = batch.x.detach().requires_grad_(True)  # type: ignore[union-attr]
        # float32, since half precision loses the small gradients of memorised samples and no scaler helps here
        with torch.enable_grad(), torch.autocast(x.device.type, enabled=False):
            total_loss = F.cross_entropy(run.task.logits(run.original, x), batch.y, reduction="sum")
            (gradient,) = torch.autograd.grad(total_loss, x)
        stepped = (255 * (pixels + self.bound * gradient.sign()).clamp(0, 1)).round() / 255
        with torch.no_grad():
            logits = run.task.logits(run.original, normalized(data, stepped))
        if not self.paper:
            logits = logits.scatter(1, batch.y[:, None], -torch.inf)
        return logits.argmax(1)

    def problems(self) -> list[str]:
        problems = super().problems()
        if self.bound <= 0:
            problems.append(f"bound is {self.bound}; it must be above 0, for example 0.1.")
        return problems
