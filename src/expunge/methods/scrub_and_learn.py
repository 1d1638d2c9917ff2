"""Scrub-and-Learn: teach a few forget samples the class that the model likes second best, without retain
data.

The predecessor of NHLE by the same authors, AI 2025, 6(6):108 (doi:10.3390/ai6060108); the body could not be
read.

Published (abstract and skeleton): for each of a few samples of the forgotten class, drop that class from the
model's probabilities and take the most probable rest, the "submaximum", as a one-hot label; fine-tune on
those samples only. Ours: the labels are taken once, from the original; 50 samples of each forgotten class,
drawn at random; full-batch steps; batch norm and dropout in eval mode, as there is no retain data to repair
their statistics; at most 3.5 points of retained accuracy may be lost (on validation samples).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ..classification import Classification
from ..data import Batch, Samples
from ..method import GradientMethod
from ..run import Row, Run
from ..schedule import Pair


@dataclass(frozen=True, kw_only=True)
class ScrubAndLearn(GradientMethod):
    """Scrub-and-Learn: a few forget samples are taught the second most probable class."""

    epochs: int = 60  # full-batch steps at most
    lr: float = 1e-3
    weight_decay: float = 0.0
    clip: float | None = 1.0
    max_drop: float = 3.5
    probe_every: int = 10
    samples: int = 50  # of each forgotten class

    scenarios: ClassVar = ("class",)
    data: ClassVar = ("forget",)
    search: ClassVar = {"lr": (3e-4, 1e-3, 3e-3, 1e-2), "samples": (20, 50, 100)}

    def prepare(self, run: Run) -> None:
        draw, labels = run.generator("few"), run.split.forget.labels
        of_class = [(labels == c).nonzero()[:, 0] for c in run.split.forget_classes]
        chosen = torch.cat([f[torch.randperm(len(f), generator=draw)[: self.samples]] for f in of_class])
        run.memo["few"] = run.split.forget.index[chosen]

    def pairs(self, run: Run) -> Iterator[Pair]:
        few = Samples(run.split.forget.data, run.memo["few"])
        yield from ((batch, None) for batch in few.batches(len(few), device=run.device))

    def steps(self, run: Run) -> int:
        return self.epochs

    def train_mode(self, run: Run) -> None:
        run.model.eval()

    def loss(self, run: Run, forget: Batch | None, retain: Batch | None) -> Tensor:
        assert forget is not None
        return run.task.relabel_loss(run.model, forget, self.submaximum(run, forget)).mean()

    def submaximum(self, run: Run, batch: Batch) -> Tensor:
        """The original's most probable class (B,) that is not forgotten."""
        assert isinstance(run.task, Classification)
        with torch.no_grad():
            logits = run.task.logits(run.original, batch.x).clone()
        logits[:, list(run.split.forget_classes)] = -torch.inf
        return logits.argmax(1)

    def stop(self, run: Run, row: Row) -> str | None:
        if row["step"] and row["forget"] == 0:
            return "no forget sample is recognised any more"
        return None

    def problems(self) -> list[str]:
        found = super().problems()
        if self.samples < 1:
            found.append(f"samples is {self.samples}; at least 1 of each forgotten class is needed.")
        return found
