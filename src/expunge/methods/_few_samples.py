"""Base class of methods that know a few forget samples per class and no retain data (NHLE, Scrub-and-Learn)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch

from ..data.samples import Samples
from ..training.method import GradientMethod
from ..training.run import Run
from ..training.schedule import Pair


@dataclass(frozen=True, kw_only=True)
class FewSamplesMethod(GradientMethod):
    """Take full-batch steps on a few samples of each forgotten class.

    The model stays in eval mode: running statistics stay bit-identical and dropout is off, because no retain data could
    repair them. So `batch_size` and `batch_norm` have no effect.

    Args:
        epochs: Maximum number of full-batch steps.
        lr: Learning rate.
        weight_decay: Weight decay of the optimizer.
        clip: Maximum L2 norm of a step's gradient. None disables clipping.
        max_drop: Maximum drop in accuracy on retained classes, in percentage points. If exceeded, the run rolls back to the last
            good state.
        guard: Samples on which the drop is measured. "retain" looks at retained training samples, of which an overfitted model
            loses more; no step trains on them. "validation" does the same if the split has no validation samples.
        probe_every: Steps between two evaluations of the accuracies. 0 evaluates once per epoch.
        samples: Forget samples drawn per forgotten class, at least 1.
    """

    epochs: int = 60
    lr: float = 1e-3
    weight_decay: float = 0.0
    clip: float | None = 1.0
    max_drop: float = 3.5
    probe_every: int = 10
    samples: int = 20
    guard: Literal["validation", "retain"] = "validation"

    scenarios: ClassVar[tuple[str, ...]] = ("class",)
    data: ClassVar[tuple[str, ...]] = ("forget",)

    def prepare(self, run: Run) -> None:
        """Draw the samples of each forgotten class."""
        draw, labels = run.generator("few"), run.split.forget.labels
        of_class = [(labels == c).nonzero()[:, 0] for c in run.split.forget_classes]
        chosen = torch.cat([f[torch.randperm(len(f), generator=draw)[: self.samples]] for f in of_class])
        run.memo["few"] = run.split.forget.index[chosen]

    def pairs(self, run: Run) -> Iterator[Pair]:
        few = Samples(run.split.forget.data, run.memo["few"])
        yield from ((batch, None) for batch in few.batches(len(few), device=run.device))

    def steps(self, run: Run) -> int:
        return self.epochs

    def guards_by_retain(self) -> bool:
        return self.guard == "retain"

    def adapted(self, run: Run) -> dict[str, Any]:
        """Return more steps, and the guard that keeps `max_drop` where retained samples are at hand."""
        return {**super().adapted(run), **({"guard": "retain"} if len(run.split.retain) else {})}

    def train_mode(self, run: Run) -> None:
        # eval mode does not stop gradients
        run.model.eval()

    def problems(self) -> list[str]:
        problems = super().problems()
        if self.samples < 1:
            problems.append(f"samples is {self.samples}; it must be at least 1 per forgotten class.")
        return problems
