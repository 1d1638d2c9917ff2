"""Bad teacher: imitate the original on the retain set and a randomly initialised network on the forget set.

    loss = (1 - l) * KL(T_s || S) + l * KL(T_d || S),    l = 1 for forget samples and 0 for retain samples

S is the model. T_s is the original; T_d is a network of the same architecture with random parameters. Both teachers are
in eval mode.

Source: Chundawat, Tarun, Mandal, Kankanhalli, "Can Bad Teaching Induce Forgetting?", AAAI 2023, arXiv:2205.08096
(equation 1).

Published: the loss at temperature 1, on the shuffled union of the forget set and a random 30 % of the retain set. One
epoch of Adam with learning rate 1e-4 and batch size 256.

Ours: the part of the retain set is drawn anew in each epoch.

Cost: One pass over the forget set and 30 % of the retain set for each epoch. Each sample also takes a forward
pass of one of two teachers, which stay in memory.

When not to use it: Three copies of the model do not fit into memory. With the goal untrain, outputs of a random
network are further from Retrain's than the original's: a model that never saw a sample still classifies it.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor
from torch.func import functional_call

from ..data.batch import Batch
from ..training.run import Run
from ._fresh import from_factory
from ._retain_part import RetainPartMethod
from .retrain import reset
from .scrub import divergence


@dataclass(frozen=True, kw_only=True)
class BadTeacher(RetainPartMethod):
    """Imitate the original on retain samples and a random network on forget samples (bad teacher).

    Args:
        epochs: Number of passes over the forget set and the part of the retain set.
        lr: Learning rate.
        optimizer: Optimizer that takes the steps.
        weight_decay: Weight decay of the optimizer.
        temperature: Temperature of the softmax of teachers and student, above 0.
    """

    epochs: int = 1
    lr: float = 1e-4
    optimizer: Literal["sgd", "adam", "adamw"] = "adam"
    weight_decay: float = 0.0
    temperature: float = 1.0

    published: ClassVar = {}
    needs: ClassVar = ("logits",)
    search: ClassVar = {"lr": (1e-4, 3e-4, 1e-3, 3e-3), "epochs": (1, 3, 5)}

    def prepare(self, run: Run) -> None:
        """Make the randomly initialised teacher."""
        fresh = from_factory(run) if run.factory is not None else reset(copy.deepcopy(run.model))
        # not its state_dict, where tied tensors occur under two names
        tensors = {**dict(fresh.named_parameters()), **dict(fresh.named_buffers())}
        run.memo["teacher"] = {k: v.detach().to(run.device, copy=True) for k, v in tensors.items()}

    def loss(self, run: Run, forget: Batch | None, retain: Batch | None) -> Tensor:
        """Return the mean KL divergence of the model from the teacher of each sample."""
        batches = [b for b in (forget, retain) if b is not None]
        with torch.no_grad():
            bad = lambda *inputs, **named: functional_call(run.original, run.memo["teacher"], inputs, named)  # noqa: E731
            teachers: list[Any] = [bad if b is forget else run.original for b in batches]
            targets = [run.task.logits(t, b.x) for t, b in zip(teachers, batches, strict=True)]
        student = run.task.logits(run.model, Batch.join(*batches).x)
        return divergence(torch.cat(targets), student, self.temperature).mean()

    def problems(self) -> list[str]:
        problems = super().problems()
        if self.temperature <= 0:
            problems.append(f"temperature is {self.temperature}; it must be above 0.")
        return problems
