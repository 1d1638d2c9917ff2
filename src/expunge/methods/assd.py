"""ASSD: SSD that chooses alpha itself, by the share of the training set that is forgotten.

    theta <- min(lambda * I_D / I_f, 1) * theta    where I_f / I_D > alpha
    alpha = the P-th percentile of I_f / I_D over all weights,    P = 100 - ln(1 + 100 * |forget| / |training|)

Source: Schoepf, Foster, Brintrup, "Parameter-Tuning-Free Data Entry Error Unlearning with Adaptive Selective Synaptic Dampening",
arXiv:2402.10098. The settings are from the authors' notebook (if-loops/adaptive-selective-synaptic-dampening, commit f04c49d).

Published: the rule for alpha. lambda is 0.1 in the notebook, and 1 in another implementation (SUPREME).

Differences from the notebook:
- It takes I_D on the retain set, in train mode, from gradients of batch means (`as_released=True` does the first and the last).
- It never shrinks a weight below a constant factor, whose value we could not read.

Ours: squared gradients of single samples, and a random part of the training set for I_D (`samples`). Weights without any gradient
have no ratio and stay.

Cost: That of ssd: one gradient of each forget sample and of at most `samples` training samples, and one edit.

When not to use it: See ssd. The rule for alpha sees only the share of the forget set, not what the model
remembers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch

from ..data.samples import Samples
from ..masks.per_sample_gradients import NamedTensors, fisher_diagonal, random_samples
from ..training.method import Method
from ..training.run import Run
from ._gradients import squared_batch_gradients
from .ssd import dampen, training_set


def percentile_of(forget: int, training: int) -> float:
    """Return P for a number of forget samples and of training samples."""
    return 100 - math.log1p(100 * forget / training)


def adaptive_alpha(of_forget: NamedTensors, of_all: NamedTensors, percentile: float) -> float:
    """Return the percentile of all finite ratios I_f / I_D; infinity if there is none."""
    ratios = torch.cat([(of_forget[n] / of_all[n]).flatten().cpu() for n in of_all])
    finite = ratios[ratios.isfinite()].numpy()
    return float(np.percentile(finite, percentile)) if len(finite) else math.inf


@dataclass(frozen=True, kw_only=True)
class ASSD(Method):
    """Shrink the weights that matter most for the forget set, at a share set by its size (adaptive SSD, ASSD).

    Args:
        dampening: lambda, the factor on the shrunken weights. Smaller values shrink more.
        samples: Samples of the training set for its importances. 0 uses all.
        batch_size: Samples per squared gradient under `as_released`. Otherwise without effect.
        as_released: Take I_D on the retain set, and square the gradients of batch means.
    """

    dampening: float = 1.0
    samples: int = 5000
    batch_size: int = 64
    as_released: bool = False

    published: ClassVar = {"as_released": True, "dampening": 0.1, "samples": 0}
    search: ClassVar = {"dampening": (0.0, 0.1, 0.3, 1.0)}

    def apply(self, run: Run) -> None:
        """Shrink the weights in place."""
        split = run.split
        of_forget = self._importances(run, split.forget)
        others = split.retain if self.as_released else training_set(run)
        of_all = self._importances(run, random_samples(others, self.samples, run.generator("importance")))
        percentile = percentile_of(len(split.forget), len(split.forget) + len(split.retain))
        alpha = adaptive_alpha(of_forget, of_all, percentile)
        dampened = dampen(run, of_forget, of_all, alpha, self.dampening)
        run.memo |= {"alpha": alpha, "percentile": percentile, "dampened": dampened}

    def _importances(self, run: Run, samples: Samples) -> NamedTensors:
        if self.as_released:
            return squared_batch_gradients(run.model, run.task, samples, self.batch_size)
        return fisher_diagonal(run.model, run.task, samples)

    def details(self, run: Run) -> dict[str, Any]:
        """Return alpha, its percentile and the number of shrunken weights."""
        return {"assd": {k: run.memo[k] for k in ("alpha", "percentile", "dampened")}}

    def problems(self) -> list[str]:
        limits = {"dampening": 0, "samples": 0, "batch_size": 1}
        return [
            f"{name} is {getattr(self, name)}; it must be at least {low}."
            for name, low in limits.items()
            if getattr(self, name) < low
        ]
