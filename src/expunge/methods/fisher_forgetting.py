"""Fisher forgetting: noise on every weight, the more the less the retain set depends on it.

Golatkar, Achille, Soatto, "Eternal Sunshine of the Spotless Net", CVPR 2020, arXiv:1911.04933 (section 5).

Published, as in the released code: F the diagonal of the Fisher information on the retain set, expected over
the model's own labels; noise of variance alpha * min(1 / (F + 1e-8), 1e3) (1e2 for the head), averaged over
the inputs of each unit, ten times as much on the head and on vectors (batch norm, biases); alpha about 1e-9
to 1e-8 for their nets. The code also replaces the forgotten class's head row by noise of mean 0 and variance
1e-4, which alone makes its accuracy fall: here a flag, `reset_class`, off by default. Ours: squared gradients
of single samples (the code squares batch gradients), on a random part of the retain set (`samples`); alpha is
1e-7 by default, larger than theirs, and is to be chosen (`search`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ..masks.per_sample_gradients import fisher_diagonal, some
from ..training.method import Method
from ..training.run import Run


def noise_variance(fisher: Tensor, alpha: float, head: bool) -> Tensor:
    """The variance of each weight's noise, from the Fisher information of a tensor of weights; same shape."""
    spread = (1 / (fisher + 1e-8)).clamp(max=1e2 if head else 1e3) * alpha
    if spread.ndim > 1:
        spread = spread.mean(dim=tuple(range(1, spread.ndim)), keepdim=True).expand_as(fisher)
    return spread * (10 if head or fisher.ndim == 1 else 1)


@dataclass(frozen=True, kw_only=True)
class FisherForgetting(Method):
    """Fisher forgetting: Gaussian noise scaled by the inverse Fisher information of the retain set."""

    alpha: float = 1e-7  # scale of the noise's variance
    samples: int = 1000  # of the retain set, for the Fisher information; 0 for all
    reset_class: bool = False  # class-wise: also replace the head's row of a forgotten class by small noise

    needs: ClassVar = ("logits", "head")
    data: ClassVar = ("retain",)
    search: ClassVar = {"alpha": (1e-8, 1e-7, 1e-6, 1e-5, 3e-5, 1e-4)}

    def apply(self, run: Run) -> None:
        edited = self.reset_class and bool(run.split.forget_classes)
        name, head = run.task.open_head(run.model, *(["weight"] if edited else []))
        draw = run.generator("noise")
        few = some(run.split.retain, self.samples, run.generator("fisher"))
        fisher = fisher_diagonal(run.model, run.task, few, expected=True)
        of_head = {f"{name}.{part}" if name else part for part in ("weight", "bias")}
        with torch.no_grad():
            for key, weight in run.model.named_parameters():
                if key in fisher:
                    spread = noise_variance(fisher[key], self.alpha, key in of_head).sqrt()
                    weight.add_(spread * torch.randn(weight.shape, generator=draw).to(weight))
            if edited:
                rows = list(run.split.forget_classes)
                small = torch.randn(head.weight[rows].shape, generator=draw)
                head.weight[rows] = 1e-2 * small.to(head.weight)

    def problems(self) -> list[str]:
        return [
            f"{name} is {getattr(self, name)}; it must be at least 0."
            for name in ("alpha", "samples")
            if getattr(self, name) < 0
        ]
