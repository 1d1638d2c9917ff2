"""SSD: shrink the weights that matter far more for the forget set than for the whole training set.

    theta <- min(lambda * I_D / I_f, 1) * theta    where I_f > alpha * I_D

I_f and I_D are importances: the diagonal of the empirical Fisher matrix on the forget set and on the training set.

Source: Foster, Schoepf, Brintrup, "Fast Machine Unlearning without Retraining through Selective Synaptic Dampening",
AAAI 2024, arXiv:2308.07707 (equation 6).

Published: the edit, with alpha = 10 and lambda = 1 on convolutional networks.

Difference from the released code: it squares the gradients of batch means. `paper=True` does so too.

Ours: squared gradients of single samples, as the formula says, and a random part of the training set for I_D (`samples`).

The forget set is part of the training set. So I_f / I_D never exceeds n / n_f if both use all samples. A forget set of 10 %
needs alpha below 10 to change anything.

Cost: One gradient of each forget sample and of at most `samples` training samples, and one edit. No steps, so a
run takes seconds. Memory: two numbers for each parameter.

When not to use it: Random samples must go: their importances are those of all other samples, and in the
benchmarks no alpha improved on the original. It repairs nothing, so a low alpha costs retain accuracy: on
CIFAR-10 it destroyed some models.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from ..data.samples import Samples
from ..masks.per_sample_gradients import (
    NamedTensors,
    fisher_diagonal,
    random_samples,
)
from ..training.method import Method
from ..training.run import Run
from ._gradients import squared_batch_gradients


def training_set(run: Run) -> Samples:
    """Return the forget set and the retain set together, in data order."""
    # not split.train, which holds withheld samples that no method may see
    index = torch.cat([run.split.forget.index, run.split.retain.index]).sort().values
    return Samples(run.split.forget.data, index)


@torch.no_grad()
def dampen(run: Run, of_forget: NamedTensors, of_all: NamedTensors, alpha: float, dampening: float) -> int:
    """Shrink the weights with I_f > alpha * I_D in place, and return their number.

    Args:
        run: The run, whose model is edited.
        of_forget: I_f, the importances for the forget set by parameter name.
        of_all: I_D, the importances for the training set.
        alpha: How many times as important for the forget set as for the training set a shrunken weight is.
        dampening: lambda, the factor on the shrunken weights.
    """
    dampened = 0
    for name, parameter in run.model.named_parameters():
        if name in of_all:
            selected = of_forget[name] > alpha * of_all[name]
            factor = (dampening * of_all[name] / of_forget[name]).clamp(max=1)
            parameter.copy_(torch.where(selected, parameter * factor, parameter))
            dampened += int(selected.sum())
    return dampened


@dataclass(frozen=True, kw_only=True)
class SSD(Method):
    """Shrink the weights that matter most for the forget set, without training (selective synaptic dampening, SSD).

    Args:
        alpha: How many times as important for the forget set as for the training set a weight must be, above 0.
        dampening: lambda, the factor on the shrunken weights. Smaller values shrink more.
        samples: Samples of the training set for its importances. 0 uses all. Without effect under `paper`.
        batch_size: Samples per squared gradient under `paper`. Otherwise without effect.
        paper: Follow the released code: square the gradients of batch means, on all samples.
    """

    alpha: float = 10.0
    dampening: float = 1.0
    samples: int = 5000
    batch_size: int = 64
    paper: bool = False

    published: ClassVar = {}
    search: ClassVar = {"alpha": (1.5, 2.0, 3.0, 5.0, 10.0, 25.0), "dampening": (0.1, 0.5, 1.0)}

    def adapted(self, run: Run) -> dict[str, Any]:
        """Return alpha = n / (2 n_f), half of what the ratio of importances can reach, if the own alpha is above it."""
        size = len(run.split.forget)
        reachable = (size + len(run.split.retain)) / (2 * max(1, size))
        return {"alpha": float(f"{reachable:.3g}")} if self.alpha > reachable else {}

    def apply(self, run: Run) -> None:
        """Shrink the weights in place."""
        forget_importances = self.importances(run, run.split.forget)
        count = 0 if self.paper else self.samples
        importances = self.importances(
            run, random_samples(training_set(run), count, run.generator("importance"))
        )
        run.memo["dampened"] = dampen(run, forget_importances, importances, self.alpha, self.dampening)

    def importances(self, run: Run, samples: Samples) -> NamedTensors:
        """Return the importance of each weight on `samples`, by parameter name."""
        if not self.paper:
            return fisher_diagonal(run.model, run.task, samples)
        return squared_batch_gradients(run.model, run.task, samples, self.batch_size)

    def details(self, run: Run) -> dict[str, Any]:
        """Return the number of shrunken weights."""
        return {self.name(): {"dampened": run.memo["dampened"]}}

    def problems(self) -> list[str]:
        problems = [
            f"{name} is {getattr(self, name)}; it must be above 0."
            for name in ("alpha", "batch_size")
            if getattr(self, name) <= 0
        ]
        problems += [
            f"{name} is {getattr(self, name)}; it must be at least 0."
            for name in ("dampening", "samples")
            if getattr(self, name) < 0
        ]
        return problems
