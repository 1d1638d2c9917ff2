"""SCRUB: a student moves away from the original on the forget set and toward it on the retain set, in turns.

    d(x) = KL(original(x) || student(x)) of softened outputs
    max step: loss = -d on the forget set,    min step: loss = alpha * d + gamma * CE on the retain set

Source: Kurmanji, Triantafillou, Hayes, Triantafillou, "Towards Unbounded Machine Unlearning", NeurIPS 2023,
arXiv:2302.09880 (equations 1 to 3).

Published: an epoch is a pass of max steps over the forget set, then a pass of min steps over the retain set. Only the
first `max_epochs` epochs have max steps. The authors' notebooks use:
- 3 to 10 epochs, 2 to 5 of them with max steps, learning rate 5e-4 and weight decay 5e-4
- alpha from 0.001 to 0.5, gamma from 0.99 to 1, temperature from 2 to 8
- 512 samples per max step if a class is forgotten, 16 for single samples, where few large steps change nothing
- Adam in the small experiments, and SGD, as here, in the large ones

Ours:
- The mean of d is multiplied by T^2 for temperature T.
- The learning rate is constant unless `lr_schedule` says otherwise.
- There is no rewinding. SCRUB+R needs a checkpoint chosen by the error on the forget set; the curves of the run show it.

Cost: One pass over the forget set in the first `max_epochs` epochs, and one over the retain set in each epoch.
Each sample also takes a forward pass of the original, which stays in memory.

When not to use it: Two copies of the model do not fit into memory. Results varied much between seeds on
CIFAR-10 (docs/benchmarks.md), so do not use it without trials. A forget set of a few samples gives few max
steps: lower `forget_batch_size`.
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


def divergence(teacher: Tensor, student: Tensor, temperature: float = 1.0) -> Tensor:
    """Return KL(teacher || student) (B,) of softmax(logits / T), times T^2.

    The factor T^2 makes the scale of the gradient independent of T.

    Args:
        teacher: Logits of the teacher (B, K).
        student: Logits of the student (B, K).
        temperature: T, above 0.
    """
    p, q = F.log_softmax(teacher / temperature, 1), F.log_softmax(student / temperature, 1)
    return temperature**2 * (p.exp() * (p - q)).sum(1)


@dataclass(frozen=True, kw_only=True)
class Scrub(GradientMethod):
    """Move away from the original on the forget set and toward it on the retain set, in turns (SCRUB).

    Args:
        lr: Learning rate.
        max_epochs: Number of first epochs that begin with a pass of max steps over the forget set.
        forget_batch_size: Samples per max step.
        alpha: Weight of the divergence from the original on the retain set.
        gamma: Weight of the cross-entropy on the retain set.
        temperature: Temperature of the softmax of teacher and student, above 0.
    """

    lr: float = 5e-4
    max_epochs: int = 3
    forget_batch_size: int = 256
    alpha: float = 0.1
    gamma: float = 1.0
    temperature: float = 4.0

    published: ClassVar = {}
    needs: ClassVar = ("logits",)
    search: ClassVar = {
        "lr": (5e-4, 1e-3, 5e-3, 1e-2, 3e-2),
        "forget_batch_size": (16, 64, 256, 512),
        "max_epochs": (2, 3, 5),
        "alpha": (0.001, 0.1, 0.5),
    }

    def pairs(self, run: Run) -> Iterator[Pair]:
        if run.epoch < self.max_epochs:
            yield from pairs(run, "forget", self.forget_batch_size)
        yield from pairs(run, "retain", self.batch_size)

    def steps(self, run: Run) -> int:
        max_steps = steps_per_epoch(run, "forget", self.forget_batch_size)
        min_steps = steps_per_epoch(run, "retain", self.batch_size)
        return min(self.max_epochs, self.epochs) * max_steps + self.epochs * min_steps

    def loss(self, run: Run, forget: Batch | None, retain: Batch | None) -> Tensor:
        """Return the loss of a max step for a forget batch, and of a min step for a retain batch."""
        batch = forget if forget is not None else retain
        assert batch is not None
        with torch.no_grad():
            teacher = run.task.logits(run.original, batch.x)
        student = run.task.logits(run.model, batch.x)
        distance = divergence(teacher, student, self.temperature).mean()
        if forget is not None:
            return -distance
        return self.alpha * distance + self.gamma * F.cross_entropy(student, batch.y)

    def problems(self) -> list[str]:
        problems = super().problems()
        problems += [
            f"{name} is {getattr(self, name)}; it must be at least {minimum}."
            for name, minimum in (("max_epochs", 0), ("forget_batch_size", 1), ("alpha", 0), ("gamma", 0))
            if getattr(self, name) < minimum
        ]
        if self.temperature <= 0:
            problems.append(f"temperature is {self.temperature}; it must be above 0.")
        return problems
