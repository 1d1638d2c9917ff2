"""SalUn: random labels on the forget set, through a mask of the weights that matter most for it.

Fan et al., "SalUn: Empowering Machine Unlearning via Gradient-based Weight Saliency in Both Image Classification and
Generation", ICLR 2024, arXiv:2310.12508 (equations 3 to 5).

Published: mask m = 1(|grad of the forget loss at the original weights| >= gamma), gamma the median of all weights
together, so half of them move (density 0.5); unlearned weights are m * theta + (1 - m) * theta_0; random labels other
than the true one, redrawn each epoch; 10 epochs, SGD 0.9, weight decay 5e-4, batch 256, rate 0.013 in the README's
CIFAR-10 example, searched in [5e-4, 5e-2]. Ours: exactly round(density * N) weights, ties by position; every sample
weighs the same in the mask, whatever the batch size (the code averages batch means; `paper_exact=True` does so too, with
the training augmentation, and lets the true label be drawn); weights outside the mask are bit-identical to the original
(the code before February 2026 let weight decay and momentum move them). Batch-norm statistics are no weights and follow
`batch_norm`. Controls: `mask="random"` and `mask="inverted"`; `density=1` is RL. Tuning keeps the
density, so that a mask and its controls have the same one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from .random_label import RandomLabel


@dataclass(frozen=True, kw_only=True)
class SalUn(RandomLabel):
    """SalUn: random labels through a saliency mask."""

    lr: float = 0.013
    density: float = 0.5

    search: ClassVar = {"lr": (5e-4, 1e-3, 2e-3, 5e-3, 8e-3, 1.3e-2, 2e-2, 3e-2, 5e-2)}

    def saliency_options(self) -> dict[str, Any]:
        return {"paper_exact": self.paper_exact}
