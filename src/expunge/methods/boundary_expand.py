"""Boundary expand: move the forget samples into an extra class, then remove this class.

    loss = CE([logits, extra logit], K)    on the forget set; the extra class has number K

Source: Chen, Gao, Liu, Xu, Wang, "Boundary Unlearning", CVPR 2023, arXiv:2303.11570 (section 4.3).

Published: the head gets a new output unit K. All weights are trained on the forget set with label K, and the unit is
removed at the end. The settings come from SalUn's baselines (arXiv:2310.12508): 10 epochs and a learning rate in
[1e-6, 1e-4].

Difference from the released baseline: it keeps the extra unit, so its probabilities have K + 1 classes.

Ours:
- The unit lives beside the model and reads the input of the head. So the model, its masks and its checkpoints keep their
  shape, and nothing has to be removed.
- The unit starts as a fresh linear unit and always moves by SGD. It uses the momentum and weight decay of the method and
  the current learning rate.
- `density` and `clip` do not apply to the unit.
- Tuning also tries learning rates above the published range. On small data the few steps would otherwise change nothing.

Cost: One pass over the forget set for each epoch, and one more output unit during the run.

When not to use it: Kept accuracy matters and there is no validation set: no retain sample takes part.
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
    """Move the forget samples into an extra class and remove it (boundary expand).

    Args:
        lr: Learning rate, also of the extra unit.
    """

    lr: float = 1e-4

    published: ClassVar = {"lr": 1e-6}
    needs: ClassVar = ("logits", "features", "head")
    data: ClassVar = ("forget",)
    search: ClassVar = {"lr": (1e-6, 1e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2)}
    schedule: ClassVar = "forget"

    def prepare(self, run: Run) -> None:
        """Draw the extra unit: D weights and a bias, as one vector (D + 1,)."""
        if run.compute.amp == "fp16":
            raise ExpungeError(
                "boundary_expand cannot run with amp='fp16': its extra unit lies outside the model, so its gradient would stay "
                "scaled. Use amp='bf16' or amp='off'."
            )
        width = run.task.head(run.model)[1].in_features
        unit = 2 * torch.rand(width + 1, generator=run.generator("unit")) - 1
        run.memo["unit"] = (unit / width**0.5).to(run.device)
        run.memo["speed"] = torch.zeros_like(run.memo["unit"])

    def loss(self, run: Run, forget: Batch | None, retain: Batch | None) -> Tensor:
        """Return the cross-entropy of the forget batch with the extra class as its label."""
        assert forget is not None
        unit = run.memo["unit"].requires_grad_(True)
        features, logits = run.task.with_features(run.model, forget.x)
        extra = features @ unit[:-1].to(features) + unit[-1]
        expanded = torch.cat([logits, extra[:, None].to(logits)], 1)  # (B, K + 1)
        return F.cross_entropy(expanded, torch.full_like(forget.y, logits.shape[1]))

    @torch.no_grad()
    def after_step(self, run: Run, optimizer: Optimizer) -> None:
        """Take an SGD step with the extra unit."""
        unit, momentum_buffer = run.memo["unit"].detach(), run.memo["speed"]
        gradient = run.memo["unit"].grad
        gradient = run.process_group.sum(torch.zeros_like(unit) if gradient is None else gradient)
        momentum_buffer.mul_(self.momentum).add_(gradient + self.weight_decay * unit)
        run.memo["unit"] = unit - optimizer.param_groups[0]["lr"] * momentum_buffer
