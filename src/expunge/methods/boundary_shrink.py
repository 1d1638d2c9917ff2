"""Boundary shrink: give each forget sample the label of the nearest other class, found by one adversarial
step.

Chen, Gao, Liu, Xu, Wang, "Boundary Unlearning: Rapid Forgetting of Deep Networks via Shifting the Decision
Boundary", CVPR 2023, arXiv:2303.11570 (section 4.2); settings as in SalUn's baselines (arXiv:2310.12508): 10
epochs, rate in [1e-6, 1e-4], step 0.1.

Published: x' = x + 0.1 sign(grad_x CE(f0(x), y)) on images in [0, 1] before normalisation, clipped and
rounded to 8 bits; the new label is f0's class of x'; cross-entropy with it on the forget set alone. f0 is the
original, in eval mode. The step need not flip the class, so the new label may be the true one:
`paper_exact=True` keeps it. Ours: where it did not flip, the most probable other class of x' is taken; inputs
must be in [0, 1] before the data's own normalisation. Tuning goes above the published range: on small data
its few steps would move nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from ..data.batch import Batch
from ..errors import ExpungeError
from ..training.method import GradientMethod
from ..training.run import Run

SLACK = 1e-4  # rounding of pixels that were normalised and are taken back


@dataclass(frozen=True, kw_only=True)
class BoundaryShrink(GradientMethod):
    """Boundary shrink: forget samples get the label of the nearest other class."""

    lr: float = 1e-4
    bound: float = 0.1  # length of the adversarial step, in units of pixels from 0 to 1
    paper_exact: bool = False  # keep labels that the step did not flip

    needs: ClassVar = ("relabel", "logits")
    data: ClassVar = ("forget",)
    search: ClassVar = {"lr": (1e-6, 1e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2)}
    schedule: ClassVar = "forget"

    def loss(self, run: Run, forget: Batch | None, retain: Batch | None) -> Tensor:
        assert forget is not None
        return run.task.relabel_loss(run.model, forget, self.nearest(run, forget)).mean()

    def nearest(self, run: Run, batch: Batch) -> Tensor:
        """The class (B,) that the original gives to each adversarially moved sample."""
        if not (isinstance(batch.x, Tensor) and batch.x.is_floating_point()):
            raise ExpungeError(
                "boundary_shrink moves inputs along their gradient and needs images as one tensor; "
                "use boundary_expand or random_label for other inputs."
            )
        normalize = run.split.forget.data.normalize
        pixels = batch.x if normalize is None else normalize.undo(batch.x)
        slack = 0.0 if normalize is None else SLACK
        if pixels.min() < -slack or pixels.max() > 1 + slack:
            raise ExpungeError(
                f"boundary_shrink moves pixels within 0 to 1 and inputs from {float(pixels.min()):.3g} to "
                f"{float(pixels.max()):.3g} came; give images in [0, 1] (or uint8), and what normalises them as `normalize` of "
                "the data or inside the model."
            )
        x = batch.x.detach().requires_grad_(True)
        # in float32: the slopes of memorised samples are too small for half precision, and nothing scales this loss
        with torch.enable_grad(), torch.autocast(x.device.type, enabled=False):
            cost = F.cross_entropy(run.task.logits(run.original, x), batch.y, reduction="sum")
            (slope,) = torch.autograd.grad(cost, x)
        moved = (255 * (pixels + self.bound * slope.sign()).clamp(0, 1)).round() / 255
        moved = moved if normalize is None else normalize(moved)
        with torch.no_grad():
            logits = run.task.logits(run.original, moved)
        if not self.paper_exact:
            logits = logits.scatter(1, batch.y[:, None], -torch.inf)
        return logits.argmax(1)

    def problems(self) -> list[str]:
        found = super().problems()
        if self.bound <= 0:
            found.append(f"bound is {self.bound}; the adversarial step must be longer than 0.")
        return found
