"""Scrub-and-Learn: teach a few forget samples the second most probable class, without retain data.

    loss = CE(forget, most probable class of the original that is not forgotten)

Source: the predecessor of NHLE by the same authors, AI 2025, 6(6):108 (doi:10.3390/ai6060108). Only the abstract and an
outline could be read.

Published: take a few samples of the forgotten class and drop this class from the model's probabilities. The most probable
rest, the "submaximum", becomes a one-hot label. Fine-tune on these samples only.

Ours:
- The labels come from the original and stay fixed.
- 50 random samples of each forgotten class, and full-batch steps, whatever `batch_size` says.
- Batch norm and dropout stay in eval mode, whatever `batch_norm` says, because no retain data could repair the statistics.
- Accuracy on retained classes may drop by at most 3.5 percentage points, measured on validation samples.

Cost: One full-batch step on `samples` samples of each forgotten class for each epoch, whatever the size of the
data. No retain samples take part.

When not to use it: Single samples or groups must go: it serves whole classes only. All samples of the class
move to a few other classes, which an audit of the predictions sees.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ..data.batch import Batch
from ..training.run import Row, Run
from ._few_samples import FewSamplesMethod


@dataclass(frozen=True, kw_only=True)
class ScrubAndLearn(FewSamplesMethod):
    """Teach a few forget samples the second most probable class (Scrub-and-Learn).

    Args:
        samples: Forget samples drawn per forgotten class, at least 1.
    """

    samples: int = 50

    needs: ClassVar = ("relabel", "logits")
    search: ClassVar = {"lr": (3e-4, 1e-3, 3e-3, 1e-2), "samples": (20, 50, 100)}

    def loss(self, run: Run, forget: Batch | None, retain: Batch | None) -> Tensor:
        """Return the mean loss of the forget batch with the submaximum as label."""
        assert forget is not None
        return run.task.relabel_loss(run.model, forget, self.submaximum(run, forget)).mean()

    def submaximum(self, run: Run, batch: Batch) -> Tensor:
        """Return the most probable class (B,) of the original that is not forgotten."""
        with torch.no_grad():
            logits = run.task.logits(run.original, batch.x).clone()
        logits[:, list(run.split.forget_classes)] = -torch.inf
        return logits.argmax(1)

    def stop(self, run: Run, row: Row) -> str | None:
        if row["step"] and row["forget"] == 0:
            return "forget accuracy is 0"
        return None
