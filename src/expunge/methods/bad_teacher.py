"""Bad teacher: imitate the original on the retain set and a network with random weights on the forget set.

Chundawat, Tarun, Mandal, Kankanhalli, "Can Bad Teaching Induce Forgetting?", AAAI 2023, arXiv:2205.08096
(equation 1).

Published: with l = 1 for forget and 0 for retain samples, the loss (1 - l) KL(T_s || S) + l KL(T_d || S), T_s
the original, T_d a model of the same kind with random weights, both in eval mode, temperature 1; a shuffled
union of the forget set and a random 30 % of the retain set, one epoch of Adam at 1e-4, batch 256. Ours: the
part of the retain set is drawn anew each epoch.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor
from torch.func import functional_call

from ..data.batch import Batch
from ..data.samples import Samples
from ..training.method import GradientMethod
from ..training.run import Run
from ..training.schedule import Pair, pairs
from .retrain import reset
from .scrub import divergence


@dataclass(frozen=True, kw_only=True)
class BadTeacher(GradientMethod):
    """Bad teacher: two teachers, the original for retain samples, a random network for forget samples."""

    epochs: int = 1
    lr: float = 1e-4
    optimizer: Literal["sgd", "adam", "adamw"] = "adam"
    weight_decay: float = 0.0
    retain_part: float = 0.3  # share of the retain set that an epoch sees
    temperature: float = 1.0  # of the softmax of teachers and student

    needs: ClassVar = ("logits",)
    search: ClassVar = {"lr": (1e-4, 3e-4, 1e-3, 3e-3), "epochs": (1, 3, 5)}
    schedule: ClassVar = "mixed"

    def prepare(self, run: Run) -> None:
        fresh = run.factory() if run.factory is not None else reset(copy.deepcopy(run.model))
        # by the names of its tensors, each once: those that are tied have two in its state
        named = {**dict(fresh.named_parameters()), **dict(fresh.named_buffers())}
        run.memo["teacher"] = {k: v.detach().to(run.device, copy=True) for k, v in named.items()}

    def pairs(self, run: Run) -> Iterator[Pair]:
        retain, draw = run.split.retain, run.generator("part")
        some = retain.take(torch.randperm(len(retain), generator=draw)[: self._count(run)].sort().values)
        yield from pairs(_seeing(run, some), "mixed", self.batch_size)

    def steps(self, run: Run) -> int:
        return self.epochs * -(-(len(run.split.forget) + self._count(run)) // self.batch_size)

    def _count(self, run: Run) -> int:
        return max(1, round(self.retain_part * len(run.split.retain)))

    def loss(self, run: Run, forget: Batch | None, retain: Batch | None) -> Tensor:
        batches = [b for b in (forget, retain) if b is not None]
        with torch.no_grad():
            bad = lambda *inputs, **named: functional_call(run.original, run.memo["teacher"], inputs, named)  # noqa: E731
            teachers: list[Any] = [bad if b is forget else run.original for b in batches]
            wanted = [run.task.logits(t, b.x) for t, b in zip(teachers, batches, strict=True)]
        student = run.task.logits(run.model, Batch.join(*batches).x)
        return divergence(torch.cat(wanted), student, self.temperature).mean()

    def problems(self) -> list[str]:
        found = super().problems()
        if not 0 < self.retain_part <= 1:
            found.append(
                f"retain_part is {self.retain_part}; it is a share of the retain set, above 0 and at most 1."
            )
        if self.temperature <= 0:
            found.append(f"temperature is {self.temperature}; it must be above 0.")
        return found


def _seeing(run: Run, retain: Samples) -> Run:
    """The run as its batches see it: with a part of the retain set. The random streams stay the run's own."""
    return replace(run, split=replace(run.split, retain=retain))
