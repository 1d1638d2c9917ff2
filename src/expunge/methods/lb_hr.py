"""LB-HR: train only the head on the retain set, with a penalty where a forgotten class's bias falls below the
others'.

From a diagnosis of class-wise unlearning by the head's biases: methods tend to hide a class by a low bias
(see `bias_shift`); this baseline trains the head without that way out.

Published, as released: CE(retain) + lambda * sum over forgotten classes of max(0, b_min - b_f)^2, with b_min
the smallest bias of a retained class; only the head moves; SGD at 0.1, 5 to 10 epochs. Ours: lambda = 1 (not
found), b_min without gradient, and the features in eval mode (running statistics and dropout are none of the
head's), whatever `batch_norm` says.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from ..data.batch import Batch
from ..errors import ModelError
from ..training.method import GradientMethod
from ..training.run import Run


def biased_head(run: Run) -> tuple[str, nn.Linear]:
    """Name and module of the head. Raises `ModelError` where it has no bias: the diagnosis does not apply."""
    name, head = run.task.head(run.model)
    if head.bias is None:
        raise ModelError(f"the head '{name}' has no bias, so a method on its biases is not applicable.")
    if not any(p.requires_grad for p in head.parameters()):
        raise ModelError(
            f"the head '{name}' is frozen and is all that would train; call requires_grad_(True) on it."
        )
    return name, head


def all_but_head(run: Run) -> set[str]:
    """Names of the parameters outside of the head."""
    name, head = biased_head(run)
    own = {f"{name}.{n}" if name else n for n, _ in head.named_parameters()}
    return {n for n, _ in run.model.named_parameters()} - own


@dataclass(frozen=True, kw_only=True)
class LBHR(GradientMethod):
    """LB-HR: head-only training on the retain set that may not hide a class by its bias."""

    lr: float = 0.1
    penalty: float = 1.0  # lambda

    needs: ClassVar = ("logits", "head")
    scenarios: ClassVar = ("class",)
    data: ClassVar = ("retain",)
    search: ClassVar = {"lr": (0.01, 0.1, 0.5), "penalty": (0.1, 1.0, 10.0)}
    schedule: ClassVar = "retain"

    def frozen(self, run: Run) -> set[str]:
        return all_but_head(run)

    def train_mode(self, run: Run) -> None:
        run.model.eval()

    def loss(self, run: Run, forget: Batch | None, retain: Batch | None) -> Tensor:
        assert retain is not None
        bias = biased_head(run)[1].bias
        gone = torch.zeros(len(bias), dtype=torch.bool, device=bias.device)
        gone[list(run.split.forget_classes)] = True
        low = (bias[~gone].min().detach() - bias[gone]).clamp(min=0)
        return run.task.loss(run.model, retain).mean() + self.penalty * low.square().sum()
