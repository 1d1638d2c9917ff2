"""Find the samples that made a loss NaN, so that a run does not blame its steps for them."""

from __future__ import annotations

from collections import deque
from typing import Any

import torch
from torch import Tensor

from ..data.batch import Batch
from ..data.samples import Samples
from ..tasks.input_checks import named_samples
from ..torch_utils.module_state import evaluating


class RecentSamples:
    """The samples of the latest steps.

    Args:
        steps: Number of steps to remember.
    """

    def __init__(self, steps: int):
        self.positions: deque[tuple[Tensor, ...]] = deque(maxlen=steps)

    def add(self, pair: tuple[Batch | None, Batch | None]) -> None:
        """Remember the positions of the batches of a step."""
        self.positions.append(tuple(batch.index for batch in pair if batch is not None))

    def broken(self, run: Any, others: list[Samples]) -> str:
        """Return a sentence that names the samples without a finite loss in the model of `run`; empty if there are none.

        Args:
            run: The run, at its last good state.
            others: Further samples to look at, those of the evaluations.
        """
        data = run.split.forget.data
        stepped = [p for positions in self.positions for p in positions]
        candidates = [data.samples(torch.cat(stepped).unique())] if stepped else []
        return broken_samples(run, [*candidates, *others])


def broken_samples(run: Any, sets: list[Samples]) -> str:
    """Return a sentence that names the samples without a finite loss in the model of `run`; empty if there are none."""
    for samples in sets:
        if bad := _without_finite_loss(run, samples):
            named = named_samples(samples.data, bad)
            return f"{named} no finite loss, also in a sound model; repair or remove the samples."
    return ""


def _without_finite_loss(run: Any, samples: Samples) -> list[int]:
    bad: list[int] = []
    with evaluating(run.model), torch.inference_mode():
        for batch in samples.batches(run.compute.eval_batch, device=run.device):
            finite = run.task.loss(run.model, batch).isfinite().cpu()
            bad += batch.index[~finite].tolist()
    return bad
