"""Fisher forgetting: add noise to every weight, more to weights that matter less for the retain set.

    theta <- theta + N(0, alpha * min(1 / (F + 1e-8), 1e3))

F is the diagonal of the Fisher information on the retain set, expected over the model's own labels.

Source: Golatkar, Achille, Soatto, "Eternal Sunshine of the Spotless Net", CVPR 2020, arXiv:1911.04933 (section 5). The
released code below is SalUn's (OPTML-Group/Unlearn-Saliency, commit a6e89fd, `fisher_new`).

Published:
- The limit of 1e3 is 1e2 for the head.
- The variance is averaged over inputs.
- The head and all vectors (batch norm, biases) get ten times the variance.
- alpha is about 1e-9 to 1e-8 for the authors' networks.
- The head's row of the forgotten class is replaced by noise of mean 0. This alone makes its accuracy fall, so here it is a
  flag, `reset_class`, which is off by default.

Differences from the released code (`paper=True` follows it):
- It averages the variance over axis 1 alone, the input channels. Each position of a convolution's kernel keeps its own
  variance. Ours averages over all inputs of a unit, positions included.
- Every parameter whose first axis has K entries, for K classes, counts as the head. Ours takes the head by name.
- The reset replaces the rows of all these parameters, so also the head's bias. The noise has variance 1e-3: 1e-4, times
  ten as for the rest of the head. Ours replaces the weight alone, with variance 1e-4.
- F is the mean over batches of 32 of sum_k mean(p_k) * (gradient of the batch's mean loss under label k)^2. Ours takes
  single samples, each with its own p_k.

Ours:
- F uses a random part of the retain set (`samples`).
- The default alpha is 1e-7, larger than the authors' values. Choose it for your model, for example by trials.

Cost: For each of at most `samples` retain samples, one gradient for each class, and one edit. With many classes
this is its main cost.

When not to use it: A class must go and all others stay: the noise acts on all classes alike. It missed the goal
of docs/defaults.md on both data sets.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..data.samples import Samples
from ..masks.per_sample_gradients import NamedTensors, fisher_diagonal, random_samples, to_full_precision
from ..tasks.classification import Classification
from ..torch_utils.module_state import device_of, evaluating
from ..training.method import Method
from ..training.run import Run

# samples of a batch in the released code's Fisher information
RELEASED_BATCH = 32


def noise_variance(fisher: Tensor, alpha: float, head: bool, paper: bool = False) -> Tensor:
    """Return the variance of each weight's noise, in the shape of `fisher`.

    Args:
        fisher: Fisher information of one parameter tensor.
        alpha: Scale of the variance.
        head: Whether the tensor belongs to the head.
        paper: Average over axis 1 alone, as the released code does, and not over all axes but the first.
    """
    variance = (1 / (fisher + 1e-8)).clamp(max=1e2 if head else 1e3) * alpha
    if variance.ndim > 1:
        axes = (1,) if paper else tuple(range(1, variance.ndim))
        variance = variance.mean(dim=axes, keepdim=True).expand_as(fisher)
    return variance * (10 if head or fisher.ndim == 1 else 1)


def released_fisher(model: nn.Module, task: Classification, samples: Samples) -> NamedTensors:
    """Return the released code's Fisher information, of batches of 32 samples in data order, by parameter name.

    Args:
        model: The classifier.
        task: Its task.
        samples: The samples; their labels are not used.
    """
    parameters = {n: p for n, p in model.named_parameters() if p.requires_grad}
    total = {n: to_full_precision(torch.zeros_like(p)) for n, p in parameters.items()}
    batches = -(-len(samples) // RELEASED_BATCH)
    with evaluating(model):
        for batch in samples.batches(RELEASED_BATCH, device=device_of(model)):
            logits = task.logits(model, batch.x)
            shares = logits.detach().softmax(1).mean(0)
            for k, share in enumerate(shares):
                loss = F.cross_entropy(logits, torch.full_like(batch.y, k))
                gradients = torch.autograd.grad(
                    loss, list(parameters.values()), retain_graph=k + 1 < len(shares), allow_unused=True
                )
                for name, gradient in zip(parameters, gradients, strict=True):
                    if gradient is not None:
                        total[name] += share * to_full_precision(gradient).square() / batches
    return total


@dataclass(frozen=True, kw_only=True)
class FisherForgetting(Method):
    """Add Gaussian noise scaled by the inverse Fisher information of the retain set (Fisher forgetting).

    Args:
        alpha: Scale of the noise variance.
        samples: Retain samples for the Fisher information. 0 uses all.
        reset_class: Also replace the head's rows of the forgotten classes by small noise. It needs a class-wise split.
        paper: Follow the released code: its Fisher information, averaging axis and reset of the bias.
    """

    alpha: float = 1e-7
    samples: int = 1000
    reset_class: bool = False
    paper: bool = False

    published: ClassVar = {"alpha": 1e-8, "reset_class": True, "samples": 0}
    needs: ClassVar = ("logits", "head")
    data: ClassVar = ("retain",)
    search: ClassVar = {"alpha": (1e-8, 1e-7, 1e-6, 1e-5, 3e-5, 1e-4)}

    def apply(self, run: Run) -> None:
        """Add the noise in place."""
        task: Classification = run.task  # type: ignore[assignment]
        rows = list(run.split.forget_classes) if self.reset_class else []
        name, head = task.open_head(run.model, *(["weight"] if rows else []))
        draw = run.generator("noise")
        few = random_samples(run.split.retain, self.samples, run.generator("fisher"))
        if self.paper:
            fisher = released_fisher(run.model, task, few)
            of_head = {n for n, p in run.model.named_parameters() if len(p) == task.num_classes}
        else:
            fisher = fisher_diagonal(run.model, task, few, expected=True)
            of_head = {f"{name}.{part}" if name else part for part in ("weight", "bias")}
        with torch.no_grad():
            for key, parameter in run.model.named_parameters():
                if key in fisher:
                    std = noise_variance(fisher[key], self.alpha, key in of_head, self.paper).sqrt()
                    if self.paper and rows and key in of_head:
                        parameter[rows] = 0
                        std = std.index_fill(0, torch.tensor(rows, device=std.device), 1e-3**0.5)
                    parameter.add_(std * torch.randn(parameter.shape, generator=draw).to(parameter))
            if rows and not self.paper:
                noise = torch.randn(head.weight[rows].shape, generator=draw)
                head.weight[rows] = 1e-2 * noise.to(head.weight)

    def problems(self) -> list[str]:
        return [
            f"{name} is {getattr(self, name)}; it must be at least 0."
            for name in ("alpha", "samples")
            if getattr(self, name) < 0
        ]
