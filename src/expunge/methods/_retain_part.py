"""Base class of methods that pass over the forget set and a part of the retain set (bad teacher, LoTUS)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar

import torch

from ..data.samples import Samples
from ..training.method import GradientMethod
from ..training.run import Run
from ..training.schedule import Pair, pairs


@dataclass(frozen=True, kw_only=True)
class RetainPartMethod(GradientMethod):
    """Pass over the shuffled union of the forget set and a part of the retain set.

    Args:
        retain_part: Share of the retain set that is used, above 0 and at most 1.
    """

    retain_part: float = 0.3

    schedule: ClassVar = "mixed"

    def part(self, run: Run) -> Samples:
        """Return the part of the retain set for this epoch: drawn anew by default."""
        return self.draw_part(run)

    def draw_part(self, run: Run) -> Samples:
        """Draw a random part of the retain set."""
        retain = run.split.retain
        order = torch.randperm(len(retain), generator=run.generator("part"))
        return retain.take(order[: self._count(run)].sort().values)

    def pairs(self, run: Run) -> Iterator[Pair]:
        # a copy of the run with another retain set; both share their random streams
        mixed = replace(run, split=replace(run.split, retain=self.part(run)))
        yield from pairs(mixed, "mixed", self.batch_size)

    def steps(self, run: Run) -> int:
        return self.epochs * -(-(len(run.split.forget) + self._count(run)) // self.batch_size)

    def _count(self, run: Run) -> int:
        """Return the number of retain samples per epoch."""
        return max(1, round(self.retain_part * len(run.split.retain)))

    def problems(self) -> list[str]:
        problems = super().problems()
        if not 0 < self.retain_part <= 1:
            problems.append(
                f"retain_part is {self.retain_part}; it must be a share of the retain set, above 0 and at most 1."
            )
        return problems
