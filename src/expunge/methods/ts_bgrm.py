"""TS-BGRM: ascend with the head alone while the kept classes' biases are pulled the other way, then repair
the head.

From the same diagnosis as `lb_hr`: ascent on a class lowers its bias and lifts all others, which hides the
class rather than forgetting it.

Published: stage 1 is gradient ascent on the forget set, head only, with the bias gradients of the kept
classes multiplied by a factor (reversed); stage 2 fine-tunes the head on the retain set. As released the
factor is +1, so nothing is reversed: `reversal=1` is that form. Ours: the factor -1, epochs and rate;
features in eval mode, whatever `batch_norm` says.
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
    """TS-BGRM: head-only ascent with reversed bias gradients, then head-only repair."""

    lr: float = 0.01
    ascent_epochs: int = 5  # stage 1; the other epochs are stage 2
    reversal: float = -1.0  # factor on the bias gradients of kept classes in stage 1

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
        first = min(self.ascent_epochs, self.epochs)
        ascent, repair = (steps_per_epoch(run, s, self.batch_size) for s in ("forget", "retain"))
        return first * ascent + (self.epochs - first) * repair

    def loss(self, run: Run, forget: Batch | None, retain: Batch | None) -> Tensor:
        if forget is None:
            assert retain is not None
            return run.task.loss(run.model, retain).mean()
        head = biased_head(run)[1]
        features, _ = run.task.with_features(run.model, forget.x)
        factor = torch.full_like(head.bias, self.reversal)
        factor[list(run.split.forget_classes)] = 1.0
        bias = factor * head.bias + ((1 - factor) * head.bias).detach()  # same value, scaled gradient
        return -F.cross_entropy(F.linear(features, head.weight, bias), forget.y)

    def problems(self) -> list[str]:
        found = super().problems()
        if self.ascent_epochs < 0:
            found.append(f"ascent_epochs is {self.ascent_epochs}; it must be at least 0.")
        return found
