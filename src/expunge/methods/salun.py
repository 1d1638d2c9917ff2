"""SalUn: train with random labels on the forget set, but move only the weights that matter most for it.

    m = 1(|grad of the forget loss at theta_0| >= gamma)
    theta_u = m * theta + (1 - m) * theta_0

Source: Fan et al., "SalUn: Empowering Machine Unlearning via Gradient-based Weight Saliency in Both Image
Classification and Generation", ICLR 2024, arXiv:2310.12508 (equations 3 to 5).

Published:
- gamma is the median over all weights together, so half of them move (density 0.5).
- Random labels differ from the true label and are drawn anew in each epoch.
- 10 epochs of SGD, momentum 0.9, weight decay 5e-4, batch size 256. The learning rate is 0.013 in the README's CIFAR-10
  example and is searched in [5e-4, 5e-2].

Ours:
- The mask holds exactly round(density * N) weights; ties go by position.
- Every sample has the same influence on the mask, whatever the batch size.
- Tuning keeps the density, so a mask and its control masks have the same one.

Differences from the released code:
- The code averages batch means in the mask. `paper=True` does so too, with the training augmentation, and may draw
  the true label.
- Before February 2026 the code let weight decay and momentum move weights outside the mask. Here they stay
  bit-identical to the original.

Batch-norm statistics are not weights and follow `batch_norm`. Control masks are `mask="random"` and `mask="inverted"`;
`density=1` is RL.

Cost: One pass over the forget set for the mask, then one pass over both sets for each epoch. The mask takes one
byte for each parameter.

When not to use it: There is no retain set, or the model has only one class. For single samples with the goal
untrain, random labels can make the samples look less familiar than to a model that never saw them: the strong
audit on digits calls the result over-forgotten (docs/audit_results.md). Take a method that stops at unseen
samples, such as ugradsl_plus, and audit it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from .random_label import RandomLabel


@dataclass(frozen=True, kw_only=True)
class SalUn(RandomLabel):
    """Train with random labels through a saliency mask (SalUn).

    Args:
        lr: Learning rate.
        density: Share of the weights that may move, from 0 to 1. Below 1, a mask selects them.
    """

    lr: float = 0.013
    density: float = 0.5

    search: ClassVar = {"lr": (5e-4, 1e-3, 2e-3, 5e-3, 8e-3, 1.3e-2, 2e-2, 3e-2, 5e-2)}

    def saliency_options(self) -> dict[str, Any]:
        return {"paper_exact": self.paper}
