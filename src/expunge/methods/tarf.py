"""TARF: forget a concept whose borders are not those of the labels: find, separate, repair.

Zhu, Han, Yao, Xu, Niu, Sugiyama, "Decoupling the Class Label and the Target Concept in Machine Unlearning",
arXiv:2406.08288.

Published: k(t) * (-CE on the forget data) + tau(x, t) * CE on the rest; k(t) = max(k (T - t - t0) / T, 0), an
ascent that fades out; tau = 0 before t1, after that 0 for samples of the rest whose loss the ascent has
changed by more than beta (they belong to the concept), else 1. Four tasks by three label domains, of the
forget data D, the model's outputs M and the target concept T: all match; target mismatch (D = M below T);
model mismatch (D = T below M); data mismatch (D below T = M). `expunge.sources.mismatch` makes them from any data
with two levels of labels.

Ours (the paper's constants were not found): t counts epochs; beta is given in parts of the forget data's own
mean change of loss; an epoch after t1 is a pass over the rest with the forget data cycling beside it;
gradients are clipped.
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
    """TARF: annealed ascent that finds the concept in the rest, then learns the rest without it."""

    strength: float = 0.5  # k: weight of the ascent at the start
    calm_epochs: int = 2  # t0: the ascent is over this many epochs before the end
    find_epochs: int = 1  # t1: epochs of ascent alone
    beta: float = 0.3  # the concept's samples change their loss by more than this share of the forget data's
    clip: float | None = 1.0

    search: ClassVar = {"lr": (1e-3, 3e-3, 1e-2, 3e-2), "strength": (0.1, 0.5, 1.0), "beta": (0.1, 0.3, 0.6)}
    schedule: ClassVar = "retain+forget"

    def pairs(self, run: Run) -> Iterator[Pair]:
        if run.epoch < self.find_epochs:
            return pairs(run, "forget", self.batch_size)
        if "rest" not in run.memo:
            run.memo["rest"] = self.separate(run)
        return pairs(run, "retain+forget", self.batch_size)

    def steps(self, run: Run) -> int:
        first = min(self.find_epochs, self.epochs)
        rest = (self.epochs - first) * steps_per_epoch(run, "retain+forget", self.batch_size)
        return first * steps_per_epoch(run, "forget", self.batch_size) + rest

    def force(self, epoch: int) -> float:
        """k(t)."""
        return max(self.strength * (self.epochs - epoch - self.calm_epochs) / self.epochs, 0.0)

    def separate(self, run: Run) -> Tensor:
        """Which positions of the data are of the rest for good (tau = 1), bool (N,)."""
        near = self.change(run, run.split.forget).mean()
        keep = torch.ones(len(run.split.retain.data), dtype=torch.bool)
        keep[run.split.retain.index] = self.change(run, run.split.retain) <= self.beta * near
        return keep

    def change(self, run: Run, samples: Samples) -> Tensor:
        """I_con: how much each sample's loss (N,) differs from the original's, absolutely."""
        found = []
        with evaluating(run.model), torch.no_grad():
            for batch in samples.batches(run.compute.eval_batch, device=run.device):
                now, then = (run.task.loss(m, batch) for m in (run.model, run.original))
                found.append((now - then).abs().cpu())
        return torch.cat(found)

    def loss(self, run: Run, forget: Batch | None, retain: Batch | None) -> Tensor:
        assert forget is not None
        ascent = -self.force(run.epoch) * run.task.loss(run.model, forget).mean()
        if retain is None:
            return ascent
        tau = run.memo["rest"][retain.index].to(retain.y.device)
        losses = run.task.loss(run.model, retain)
        return ascent + (tau * losses).sum() / tau.sum().clamp(min=1)

    def problems(self) -> list[str]:
        found = super().problems()
        found += [
            f"{name} is {getattr(self, name)}; it must be at least 0."
            for name in ("strength", "calm_epochs", "find_epochs", "beta")
            if getattr(self, name) < 0
        ]
        return found
