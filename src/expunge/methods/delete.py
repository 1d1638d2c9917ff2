"""DELETE: imitate the original on the forget set, with the true class taken out of its output.

    q = softmax of the original's logits without the true class y,    loss = KL(q || p) = -log(1 - p_y) + KL(q || p without y)

The first term forgets. The second keeps what the original says about the other classes.

Source: Zhou, Zheng, Mo, Lu, Lin, Zheng, "Decoupled Distillation to Erase", CVPR 2025, arXiv:2503.23751. The full text could
not be read: the rule and the settings are from the authors' code (shaaaaron/DELETE, commit 60018a1).

Published:
- Training uses the forget set alone. The tasks are classes, faces, backdoors and segmentation.
- 20 epochs of SGD, momentum 0.9, no weight decay, batch size 128. The learning rate is 1e-4 for CIFAR-10 and 5e-5 for
  CIFAR-100 and Tiny-ImageNet.
- Batch norm learns from the forget batches (`paper=True`).

Ours:
- Batch norm keeps its running statistics, because no retain batch would repair them.
- The code subtracts 1e10 from the logit of y, which half precision cannot hold. Here y is left out exactly.

Random samples can be forgotten too. The loss drives their accuracy to 0, far below Retrain's, so choose few epochs.

Cost: One pass over the forget set for each epoch, and one forward pass of the original for each forget sample.

When not to use it: Single samples must go and the result must be like Retrain's: the loss drives their accuracy
to 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from ..data.batch import Batch
from ..masks.per_sample_gradients import to_full_precision
from ..training.method import GradientMethod
from ..training.run import Run


def decoupled_loss(teacher: Tensor, student: Tensor, y: Tensor) -> Tensor:
    """Return KL(q || p) (B,), where q is the teacher's softmax without the class y, and p the student's softmax.

    Args:
        teacher: Logits of the teacher (B, K).
        student: Logits of the student (B, K).
        y: Classes (B,) that q leaves out.
    """
    is_true = F.one_hot(y, teacher.shape[1]).bool()
    q = to_full_precision(teacher).masked_fill(is_true, -torch.inf).softmax(1)
    log_p = F.log_softmax(to_full_precision(student), 1)
    return F.kl_div(log_p, q, reduction="none").sum(1)


@dataclass(frozen=True, kw_only=True)
class Delete(GradientMethod):
    """Imitate the original on forget samples without their true class (DELETE).

    Args:
        epochs: Number of passes over the forget set.
        lr: Learning rate.
        batch_size: Samples per step.
        weight_decay: Weight decay of the optimizer.
        batch_norm: Whether batch norm's running statistics are updated or frozen during the steps.
    """

    epochs: int = 20
    lr: float = 1e-4
    batch_size: int = 128
    weight_decay: float = 0.0
    batch_norm: Literal["update", "freeze"] = "freeze"

    published: ClassVar = {"batch_norm": "update", "max_drop": 100.0}
    needs: ClassVar = ("logits",)
    data: ClassVar = ("forget",)
    search: ClassVar = {"lr": (5e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2)}
    schedule: ClassVar = "forget"

    def loss(self, run: Run, forget: Batch | None, retain: Batch | None) -> Tensor:
        """Return the mean divergence of the model from the original without the true classes."""
        assert forget is not None
        with torch.no_grad():
            teacher = run.task.logits(run.original, forget.x)
        return decoupled_loss(teacher, run.task.logits(run.model, forget.x), forget.y).mean()
