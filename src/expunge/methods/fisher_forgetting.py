"""Fisher forgetting: add noise to every weight, more to weights that matter less for the retain set.

    theta <- theta + N(0, alpha * min(1 / (F + 1e-8), 1e3))

F is the diagonal of the Fisher information on the retain set, expected over the model's own labels.

Source: Golatkar, Achille, Soatto, "Eternal Sunshine of the Spotless Net", CVPR 2020, arXiv:1911.04933 (section 5).

Published, as in the released code:
- The limit of 1e3 is 1e2 for the head.
- The variance is averaged over the inputs of each unit.
- The head and all vectors (batch norm, biases) get ten times the variance.
- alpha is about 1e-9 to 1e-8 for the authors' networks.
- The head's row of the forgotten class is replaced by noise of mean 0 and variance 1e-4. This alone makes its accuracy
  fall, so here it is a flag, `reset_class`, which is off by default.

Ours:
- F uses squared gradients of single samples (the code squares batch gradients), on a random part of the retain set.
- The default alpha is 1e-7, larger than the authors' values. Choose it for your model, for example by trials.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ..masks.per_sample_gradients import fisher_diagonal, random_samples
from ..training.method import Method
from ..training.run import Run


def noise_variance(fisher: Tensor, alpha: float, head: bool) -> Tensor:
    """Return the variance of each weight's noise, in the shape of `fisher`.

    Args:
        fisher: Fisher information of one parameter tensor.
        alpha: Scale of the variance.
        head: Whether the tensor belongs to the head.
    """
    variance = (1 / (fisher + 1e-8)).clamp(max=1e2 if head else 1e3) * alpha
    if variance.ndim > 1:
        variance = variance.mean(dim=tuple(range(1, variance.ndim)), keepdim=True).expand_as(fisher)
    return variance * (10 if head or fisher.ndim == 1 else 1)


@dataclass(frozen=True, kw_only=True)
class FisherForgetting(Method):
    """Add Gaussian noise scaled by the inverse Fisher information of the retain set (Fisher forgetting).

    Args:
        alpha: Scale of the noise variance.
        samples: Retain samples for the Fisher information. 0 uses all.
        reset_class: Also replace the head's rows of the forgotten classes by small noise. It needs a class-wise split.
    """

    alpha: float = 1e-7
    samples: int = 1000
    reset_class: bool = False

    published: ClassVar = {"alpha": 1e-8, "reset_class": True}
    needs: ClassVar = ("logits", "head")
    data: ClassVar = ("retain",)
    search: ClassVar = {"alpha": (1e-8, 1e-7, 1e-6, 1e-5, 3e-5, 1e-4)}

    def apply(self, run: Run) -> None:
        """Add the noise in place."""
        resets = self.reset_class and bool(run.split.forget_classes)
        name, head = run.task.open_head(run.model, *(["weight"] if resets else []))
        draw = run.generator("noise")
        few = random_samples(run.split.retain, self.samples, run.generator("fisher"))
        fisher = fisher_diagonal(run.model, run.task, few, expected=True)
        of_head = {f"{name}.{part}" if name else part for part in ("weight", "bias")}
        with torch.no_grad():
            for key, parameter in run.model.named_parameters():
                if key in fisher:
                    std = noise_variance(fisher[key], self.alpha, key in of_head).sqrt()
                    parameter.add_(std * torch.randn(parameter.shape, generator=draw).to(parameter))
            if resets:
                rows = list(run.split.forget_classes)
                noise = torch.randn(head.weight[rows].shape, generator=draw)
                head.weight[rows] = 1e-2 * noise.to(head.weight)

    def problems(self) -> list[str]:
        return [
            f"{name} is {getattr(self, name)}; it must be at least 0."
            for name in ("alpha", "samples")
            if getattr(self, name) < 0
        ]
