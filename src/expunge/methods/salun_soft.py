"""SalUn-soft: train with random labels and pull every weight to its original value by soft thresholding.

    d = theta - theta_0,    d <- sign(d) * max(|d| - tau, 0)    after each step

tau is chosen so that a given share of the weights returns to the original. This share falls linearly from `ratio` to 0
over the run. No mask is fixed beforehand.

Source: Fan et al., ICLR 2024, arXiv:2310.12508, appendix on soft thresholding.

Published: the update above.

Ours:
- The anchor is the original during the whole run. The released code takes a new anchor in each epoch, so it pulls to the
  weights of the last epoch.
- A weight that returns to the original keeps its momentum. The paper does not mention momentum.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch.optim import Optimizer

from ..training.run import Run
from .random_label import RandomLabel


@dataclass(frozen=True, kw_only=True)
class SalUnSoft(RandomLabel):
    """Train with random labels and soft thresholding toward the original weights (SalUn-soft).

    Args:
        lr: Learning rate.
        ratio: Share of the weights that return to the original after the first step, from 0 to 1.
    """

    lr: float = 0.013
    ratio: float = 0.5

    search: ClassVar = {"lr": (5e-4, 1e-3, 2e-3, 5e-3, 8e-3, 1.3e-2, 2e-2, 3e-2, 5e-2)}

    @torch.no_grad()
    def after_step(self, run: Run, optimizer: Optimizer) -> None:
        """Shrink the displacement of every weight from the original by tau."""
        share = self.ratio * (1 - run.step / max(1, self.steps(run)))
        names = [n for n, p in run.model.named_parameters() if p.requires_grad]
        current, original = dict(run.model.named_parameters()), dict(run.original.named_parameters())
        # the share counts only the weights that may move
        distances = torch.cat(
            [
                (current[n] - original[n]).abs()[... if run.mask is None else run.mask[n]].flatten().float()
                for n in names
            ]
        )
        k = int(share * len(distances))
        if k == 0:
            return
        # kthvalue uses a single block of threads for one long row on a GPU, sort uses all of them
        tau = distances.sort().values[k - 1] if distances.is_cuda else distances.kthvalue(k).values
        for n in names:
            d = current[n] - original[n]
            shrunk = original[n] + d.sign() * (d.abs() - tau).clamp_min(0)
            # copying the original keeps the sign of a zero, which the sum would lose
            current[n].copy_(torch.where(d.abs() <= tau, original[n], shrunk))

    def problems(self) -> list[str]:
        problems = super().problems()
        if not 0 <= self.ratio <= 1:
            problems.append(f"ratio is {self.ratio}; it must be a share of the weights, from 0 to 1.")
        return problems
