"""LB-HR: train only the head on the retain set, with a penalty on a forgotten class's bias below all others.

    loss = CE(retain) + lambda * sum over forgotten classes of max(0, b_min - b_f)^2

b_min is the smallest bias of a retained class. Methods of class-wise unlearning tend to hide a class by a low bias (see
`bias_shift`). This baseline trains the head without that shortcut.

Source: a diagnosis of class-wise unlearning by the biases of the head.

Published, as released: the loss; only the head moves; SGD with learning rate 0.1 for 5 to 10 epochs.

Ours:
- lambda = 1, since no published value was found.
- No gradient flows through b_min.
- Features are computed in eval mode, whatever `batch_norm` says, so running statistics and dropout do not change.

Cost: One forward pass over the retain set for each epoch, and a backward pass through the head alone.

When not to use it: More than the head has to forget: all features of the class stay, as the feature gap shows.
It serves whole classes only.
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
    """Return the name and the module of the head.

    Raises:
        ModelError: The head has no bias, or all of it is frozen.
    """
    name, head = run.task.head(run.model)
    if head.bias is None:
        raise ModelError(
            f"the head '{name}' has no bias, so a method on the biases of the head is not applicable; use another method."
        )
    if not any(p.requires_grad for p in head.parameters()):
        raise ModelError(
            f"the head '{name}' is frozen and this method trains nothing else; call requires_grad_(True) on it."
        )
    return name, head


def all_but_head(run: Run) -> set[str]:
    """Return the names of all parameters outside the head."""
    name, head = biased_head(run)
    of_head = {f"{name}.{n}" if name else n for n, _ in head.named_parameters()}
    return {n for n, _ in run.model.named_parameters()} - of_head


@dataclass(frozen=True, kw_only=True)
class LBHR(GradientMethod):
    """Train only the head on the retain set, without hiding a class by its bias (LB-HR).

    Args:
        lr: Learning rate.
        penalty: lambda, the weight of the penalty on low biases of forgotten classes.
    """

    lr: float = 0.1
    penalty: float = 1.0

    published: ClassVar = {}
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
        """Return the retain loss plus the penalty on low biases."""
        assert retain is not None
        bias = biased_head(run)[1].bias
        forgotten = torch.zeros(len(bias), dtype=torch.bool, device=bias.device)
        forgotten[list(run.split.forget_classes)] = True
        below = (bias[~forgotten].min().detach() - bias[forgotten]).clamp(min=0)
        return run.task.loss(run.model, retain).mean() + self.penalty * below.square().sum()
