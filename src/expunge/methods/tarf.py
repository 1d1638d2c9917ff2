"""TARF: forget a concept whose borders differ from those of the labels: find it, separate it, repair the rest.

    loss = -k(t) * CE(forget data) + tau(x, t) * CE(rest),    k(t) = max(k * (T - t - t0) / T, 0)

The ascent fades out with k(t). tau is 0 before t1. After t1, tau is 0 for samples of the rest whose loss the ascent
has changed by more than beta, because they belong to the concept. tau is 1 for all others.

Source: Zhu, Han, Yao, Xu, Niu, Sugiyama, "Decoupling the Class Label and the Target Concept in Machine Unlearning",
arXiv:2406.08288.

Published: the loss, and four tasks. They differ in the label domains of the forget data D, the model's outputs M and the
target concept T:
- all match
- target mismatch: D = M, finer than T
- model mismatch: D = T, finer than M
- data mismatch: D finer than T = M

`expunge.sources.mismatch` makes these tasks from any data with two levels of labels.

Ours, because the paper's constants were not found:
- t counts epochs.
- beta is relative to the mean change of loss on the forget data.
- An epoch after t1 is a pass over the rest. A forget batch accompanies every batch; the forget data repeats as needed.
- Gradients are clipped.

Cost: One pass over the forget data in the first epochs, then one over the rest for each epoch, with as many
forget samples beside it, and evaluations of the loss of the rest.

When not to use it: Labels and concept match: simpler methods do the same. The concept cannot be told by the
loss: then the rest teaches it again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ..data.batch import Batch
from ..data.samples import Samples
from ..torch_utils.module_state import evaluating
from ..training.method import GradientMethod
from ..training.run import Run
from ..training.schedule import Pair, pairs, steps_per_epoch


@dataclass(frozen=True, kw_only=True)
class TARF(GradientMethod):
    """Find the concept in the retain set by fading ascent, then learn the rest without it (TARF).

    Args:
        strength: k, the weight of the ascent at the start.
        calm_epochs: t0, the number of last epochs without ascent.
        find_epochs: t1, the number of first epochs with ascent alone.
        beta: A retain sample belongs to the concept if its loss changes by more than this share of the forget data's mean
            change.
        clip: Maximum L2 norm of a step's gradient. None disables clipping.
    """

    strength: float = 0.5
    calm_epochs: int = 2
    find_epochs: int = 1
    beta: float = 0.3
    clip: float | None = 1.0

    search: ClassVar = {"lr": (1e-3, 3e-3, 1e-2, 3e-2), "strength": (0.1, 0.5, 1.0), "beta": (0.1, 0.3, 0.6)}
    schedule: ClassVar = "retain+forget"

    def pairs(self, run: Run) -> Iterator[Pair]:
        if run.epoch < self.find_epochs:
            return pairs(run, "forget", self.batch_size)
        if "rest" not in run.memo:
            run.memo["rest"] = self.find_rest(run)
        return pairs(run, "retain+forget", self.batch_size)

    def steps(self, run: Run) -> int:
        finding = min(self.find_epochs, self.epochs)
        later_steps = (self.epochs - finding) * steps_per_epoch(run, "retain+forget", self.batch_size)
        return finding * steps_per_epoch(run, "forget", self.batch_size) + later_steps

    def ascent_weight(self, epoch: int) -> float:
        """Return k(t)."""
        return max(self.strength * (self.epochs - epoch - self.calm_epochs) / self.epochs, 0.0)

    def find_rest(self, run: Run) -> Tensor:
        """Return which positions of the data do not belong to the concept (tau = 1), bool (N,)."""
        forget_change = self.loss_change(run, run.split.forget).mean()
        is_rest = torch.ones(len(run.split.retain.data), dtype=torch.bool)
        is_rest[run.split.retain.index] = self.loss_change(run, run.split.retain) <= self.beta * forget_change
        return is_rest

    def loss_change(self, run: Run, samples: Samples) -> Tensor:
        """Return I_con, the absolute difference of each sample's loss (N,) from the original's."""
        changes = []
        with evaluating(run.model), torch.no_grad():
            for batch in samples.batches(run.compute.eval_batch, device=run.device):
                current, original = (run.task.loss(m, batch) for m in (run.model, run.original))
                changes.append((current - original).abs().cpu())
        return torch.cat(changes)

    def loss(self, run: Run, forget: Batch | None, retain: Batch | None) -> Tensor:
        """Return the fading ascent on the forget batch, plus the mean loss on the batch's part of the rest."""
        assert forget is not None
        ascent = -self.ascent_weight(run.epoch) * run.task.loss(run.model, forget).mean()
        if retain is None:
            return ascent
        tau = run.memo["rest"][retain.index].to(retain.y.device)
        losses = run.task.loss(run.model, retain)
        return ascent + (tau * losses).sum() / tau.sum().clamp(min=1)

    def problems(self) -> list[str]:
        problems = super().problems()
        problems += [
            f"{name} is {getattr(self, name)}; it must be at least 0."
            for name in ("strength", "calm_epochs", "find_epochs", "beta")
            if getattr(self, name) < 0
        ]
        return problems
