"""SCRUB: a student that disagrees with the original on the forget set, by turns agrees on the retain set.

Kurmanji, Triantafillou, Hayes, Triantafillou, "Towards Unbounded Machine Unlearning", NeurIPS 2023,
arXiv:2302.09880 (equations 1 to 3).

Published: with d(x) = KL(original(x) || student(x)) of softened outputs, each epoch is a max step, one pass
over the forget set on -d, only in the first `max_epochs` epochs, then a min step, one pass over the retain
set on alpha d + gamma CE. Their notebooks: 3 to 10 epochs, 2 to 5 of them with max steps, rate 5e-4, alpha
0.001 to 0.5, gamma 0.99 to 1, temperature 2 to 8, weight decay 5e-4, 512 samples a max step where a class is
forgotten and 16 where single samples are (few large steps then move nothing), Adam in the small experiments
and SGD in the large ones, as here. Ours: mean of d times T^2; the rate is constant unless `lr_schedule` says
otherwise; no rewinding (SCRUB+R needs a checkpoint chosen by the forget
set's error: the run's curves show it).
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
    """KL(teacher || student) (B,) of softmax(logits / T), times T^2 so that its gradient does not depend on
    T's scale."""
    p, q = F.log_softmax(teacher / temperature, 1), F.log_softmax(student / temperature, 1)
    return temperature**2 * (p.exp() * (p - q)).sum(1)


@dataclass(frozen=True, kw_only=True)
class Scrub(GradientMethod):
    """SCRUB: away from the original on the forget set, towards it on the retain set, in alternation."""

    lr: float = 5e-4
    max_epochs: int = 3  # epochs that begin with a pass away from the original on the forget set
    forget_batch_size: int = 256  # samples of a max step
    alpha: float = 0.1  # weight of agreeing with the original on the retain set
    gamma: float = 1.0  # weight of the retain set's cross-entropy
    temperature: float = 4.0  # of the softmax of teacher and student

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
        away = steps_per_epoch(run, "forget", self.forget_batch_size)
        towards = steps_per_epoch(run, "retain", self.batch_size)
        return min(self.max_epochs, self.epochs) * away + self.epochs * towards

    def loss(self, run: Run, forget: Batch | None, retain: Batch | None) -> Tensor:
        batch = forget if forget is not None else retain
        assert batch is not None
        with torch.no_grad():
            teacher = run.task.logits(run.original, batch.x)
        student = run.task.logits(run.model, batch.x)
        apart = divergence(teacher, student, self.temperature).mean()
        if forget is not None:
            return -apart
        return self.alpha * apart + self.gamma * F.cross_entropy(student, batch.y)

    def problems(self) -> list[str]:
        found = super().problems()
        found += [
            f"{name} is {getattr(self, name)}; it must be at least {low}."
            for name, low in (("max_epochs", 0), ("forget_batch_size", 1), ("alpha", 0), ("gamma", 0))
            if getattr(self, name) < low
        ]
        if self.temperature <= 0:
            found.append(f"temperature is {self.temperature}; it must be above 0.")
        return found
