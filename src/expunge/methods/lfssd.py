"""LFSSD: SSD whose importances need no labels: gradients of the squared length of the outputs.

    theta <- min(lambda * I_D / I_f, 1) * theta    where I_f > alpha * I_D,    I = mean of |gradient of |f(x)|^2|

f are the logits. I_f is the mean over the forget set, and I_D that over the training set.

Source: Foster, Schoepf, Brintrup, "Loss-Free Machine Unlearning", ICLR 2024 Tiny Paper, arXiv:2402.19308. The settings are from the
authors' code (if-loops/selective-synaptic-dampening, commit cdfdc0e).

Published: lambda = 1. alpha is 5 for a class of CIFAR-20, 10 for CIFAR-100, faces and sub-classes, and 3.5 for random samples.

Difference from the released code: it takes the gradient of a batch's mean, whose size depends on the batches. `paper=True`
does so too.

Ours: gradients of single samples, and a random part of the training set for I_D (`samples`).

I_f / I_D never exceeds n / n_f if both use all samples and single gradients (see SSD).

Cost: That of ssd with gradients of outputs: no labels are read.

When not to use it: Labels are at hand: ssd uses them. Random samples must go: see ssd.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from ..data.batch import Batch
from ..data.samples import Samples
from ..masks.per_sample_gradients import (
    NamedTensors,
    gradient_batches,
    per_sample_gradients,
    to_full_precision,
)
from ..tasks.task import Task
from ..training.run import Run
from ._gradients import squared_batch_gradients
from .ssd import SSD


class _OutputLength(Task):
    """A task whose loss is the squared length of the logits. It ignores labels."""

    name = "output length"

    def __init__(self, task: Task):
        self.task = task

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        return to_full_precision(self.task.logits(model, batch.x)).square().sum(1)


@dataclass(frozen=True, kw_only=True)
class LFSSD(SSD):
    """Shrink the weights that change the outputs of the forget set most, without labels (loss-free SSD, LFSSD).

    Args:
        paper: Follow the released code: take the gradients of batch means, on all samples.
    """

    paper: bool = False

    needs: ClassVar = ("logits",)

    def importances(self, run: Run, samples: Samples) -> NamedTensors:
        """Return the mean magnitude of the gradient of the squared output, by parameter name."""
        task = _OutputLength(run.task)
        if self.paper:
            return squared_batch_gradients(run.model, task, samples, self.batch_size, power=1)
        total: NamedTensors = {}
        for batch in gradient_batches(run.model, samples):
            for name, gradients in per_sample_gradients(run.model, task, batch).items():
                part = to_full_precision(gradients).abs().sum(0) / len(samples)
                total[name] = total[name] + part if name in total else part
        return total
