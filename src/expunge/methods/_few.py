"""What methods have in common that know a few forget samples of each class and no retain data."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch

from ..data.samples import Samples
from ..training.method import GradientMethod
from ..training.run import Run
from ..training.schedule import Pair


@dataclass(frozen=True, kw_only=True)
class FewSamples(GradientMethod):
    """Full-batch steps on a few samples of each forgotten class, the model in eval mode: running statistics stay
    bit-identical and dropout is off, since there is no retain data to repair them."""

    epochs: int = 60  # full-batch steps at most
    lr: float = 1e-3
    weight_decay: float = 0.0
    clip: float | None = 1.0
    max_drop: float = 3.5
    probe_every: int = 10
    samples: int = 20  # of each forgotten class

    scenarios: ClassVar[tuple[str, ...]] = ("class",)
    data: ClassVar[tuple[str, ...]] = ("forget",)

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
        run.model.eval()  # gradients flow all the same

    def problems(self) -> list[str]:
        found = super().problems()
        if self.samples < 1:
            found.append(f"samples is {self.samples}; at least 1 of each forgotten class is needed.")
        return found
