"""TS-BGRM: ascend with the head alone and reverse the bias gradients of kept classes, then repair the head.

    stage 1: loss = -CE(forget); the bias gradients of kept classes are multiplied by a factor
    stage 2: loss = CE(retain)

Only the head moves. Plain ascent on a class lowers its bias and raises all others. That hides the class instead of
forgetting it.

Source: the same diagnosis as `lb_hr`.

Published: the two stages.

Difference from the released code: its factor is +1, so it reverses nothing. Use `reversal=1` for this form.

Ours: the factor -1, the number of epochs and the learning rate. Features are computed in eval mode, whatever `batch_norm`
says.

Cost: Two short trainings of the head on features of both sets; no backward pass through the network.

When not to use it: More than the head has to forget: all features of the class stay, as the feature gap shows.
It serves whole classes only.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from ..data.batch import Batch
from ..training.method import GradientMethod
from ..training.run import Run
from ..training.schedule import Pair, pairs, steps_per_epoch
from .lb_hr import all_but_head, biased_head


@dataclass(frozen=True, kw_only=True)
class TSBGRM(GradientMethod):
    """Ascend with the head alone under reversed bias gradients, then repair the head (TS-BGRM).

    Args:
        lr: Learning rate.
        ascent_epochs: Number of epochs of stage 1. All further epochs are stage 2.
        reversal: Factor on the bias gradients of kept classes in stage 1.
    """

    lr: float = 0.01
    ascent_epochs: int = 5
    reversal: float = -1.0

    published: ClassVar = {"reversal": 1.0}
    needs: ClassVar = ("logits", "features", "head")
    scenarios: ClassVar = ("class",)
    search: ClassVar = {"lr": (0.003, 0.01, 0.03, 0.1), "ascent_epochs": (2, 5, 8)}

    def frozen(self, run: Run) -> set[str]:
        return all_but_head(run)

    def train_mode(self, run: Run) -> None:
        run.model.eval()

    def pairs(self, run: Run) -> Iterator[Pair]:
        return pairs(run, "forget" if run.epoch < self.ascent_epochs else "retain", self.batch_size)

    def steps(self, run: Run) -> int:
        ascent_epochs = min(self.ascent_epochs, self.epochs)
        ascent, repair = (steps_per_epoch(run, s, self.batch_size) for s in ("forget", "retain"))
        return ascent_epochs * ascent + (self.epochs - ascent_epochs) * repair

    def loss(self, run: Run, forget: Batch | None, retain: Batch | None) -> Tensor:
        """Return the loss of stage 1 for a forget batch, and of stage 2 for a retain batch."""
        if forget is None:
            assert retain is not None
            return run.task.loss(run.model, retain).mean()
        head = biased_head(run)[1]
        features, _ = run.task.with_features(run.model, forget.x)
        factor = torch.full_like(head.bias, self.reversal)
        factor[list(run.split.forget_classes)] = 1.0
        # the same value as the bias, with its gradient multiplied by the factor
        bias = factor * head.bias + ((1 - factor) * head.bias).detach()
        return -F.cross_entropy(F.linear(features, head.weight, bias), forget.y)

    def problems(self) -> list[str]:
        problems = super().problems()
        if self.ascent_epochs < 0:
            problems.append(f"ascent_epochs is {self.ascent_epochs}; it must be at least 0.")
        return problems
