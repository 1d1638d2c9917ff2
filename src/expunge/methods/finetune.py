"""FT: fine-tune the original on the retain set and rely on it to forget the rest.

    loss = CE(retain)

The forget set is never used.

Source: a baseline of Golatkar et al., CVPR 2020, and of Warnecke et al., 2021.

Published: the settings, from SalUn's released code (Fan et al., ICLR 2024, arXiv:2310.12508, section 5). These are 10
epochs and a learning rate searched in [1e-3, 1e-1]; the example uses 0.01.

Cost: One pass over the retain set for each epoch.

When not to use it: Few epochs must do: nothing pushes the forget set out, so forgetting is slow. In the
benchmarks it kept most of a random forget set of CIFAR-10 and lost retain accuracy.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from ..data.batch import Batch
from ..training.method import GradientMethod
from ..training.run import Run


@dataclass(frozen=True, kw_only=True)
class FineTune(GradientMethod):
    """Fine-tune on the retain set (FT)."""

    published: ClassVar = {}
    data: ClassVar = ("retain",)
    search: ClassVar = {"lr": (1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2, 1e-1)}
    schedule: ClassVar = "retain"

    def loss(self, run: Run, forget: Batch | None, retain: Batch | None) -> Tensor:
        """Return the mean loss on the retain batch."""
        assert retain is not None
        return run.task.loss(run.model, retain).mean()
