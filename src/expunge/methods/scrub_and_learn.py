"""Scrub-and-Learn: teach a few forget samples the class that the model likes second best, without retain
data.

The predecessor of NHLE by the same authors, AI 2025, 6(6):108 (doi:10.3390/ai6060108); the body could not be
read.

Published (abstract and skeleton): for each of a few samples of the forgotten class, drop that class from the
model's probabilities and take the most probable rest, the "submaximum", as a one-hot label; fine-tune on
those samples only. Ours: the labels are taken once, from the original; 50 samples of each forgotten class,
drawn at random; full-batch steps, whatever `batch_size` says; batch norm and dropout in eval mode, whatever
`batch_norm` says, as there is no retain data to repair their statistics; at most 3.5 points of retained
accuracy may be lost (on validation samples).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ..data.batch import Batch
from ..training.run import Row, Run
from ._few import FewSamples


@dataclass(frozen=True, kw_only=True)
class ScrubAndLearn(FewSamples):
    """Scrub-and-Learn: a few forget samples are taught the second most probable class."""

    samples: int = 50  # of each forgotten class

    needs: ClassVar = ("relabel", "logits")
    search: ClassVar = {"lr": (3e-4, 1e-3, 3e-3, 1e-2), "samples": (20, 50, 100)}

    def loss(self, run: Run, forget: Batch | None, retain: Batch | None) -> Tensor:
        assert forget is not None
        return run.task.relabel_loss(run.model, forget, self.submaximum(run, forget)).mean()

    def submaximum(self, run: Run, batch: Batch) -> Tensor:
        """The original's most probable class (B,) that is not forgotten."""
        with torch.no_grad():
            logits = run.task.logits(run.original, batch.x).clone()
        logits[:, list(run.split.forget_classes)] = -torch.inf
        return logits.argmax(1)

    def stop(self, run: Run, row: Row) -> str | None:
        if row["step"] and row["forget"] == 0:
            return "no forget sample is recognised any more"
        return None
