"""SalUn-soft: random labels with an l1 pull of every weight to its original value, instead of a mask fixed beforehand.

Fan et al., ICLR 2024, arXiv:2310.12508, appendix on soft thresholding. After each step the displacement d from the
original weights becomes sign(d) * max(|d| - tau, 0), where tau is chosen so that a given share of all weights returns
to the original; the share falls linearly from `ratio` to 0 over the run.

Ours: the anchor is the original for the whole run (the released code takes a new one each epoch, so that the pull is to
the last epoch's weights), and the momentum of the weights put back is kept, as the paper says nothing of it.
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
    """SalUn-soft: random labels with proximal soft thresholding toward the original weights."""

    lr: float = 0.013
    ratio: float = 0.5  # share of the weights put back after the first step

    search: ClassVar = {"lr": (5e-4, 1e-3, 2e-3, 5e-3, 8e-3, 1.3e-2, 2e-2, 3e-2, 5e-2)}

    @torch.no_grad()
    def after_step(self, run: Run, optimizer: Optimizer) -> None:
        share = self.ratio * (1 - run.step / max(1, self.steps(run)))
        free = [n for n, p in run.model.named_parameters() if p.requires_grad]
        now, then = dict(run.model.named_parameters()), dict(run.original.named_parameters())
        moved = [(now[n] - then[n]).abs()[... if run.mask is None else run.mask[n]] for n in free]
        flat = torch.cat([d.flatten().float() for d in moved])  # only what may move has a part in the share
        k = int(share * len(flat))
        if k == 0:
            return
        # a GPU finds the k-th of one long row with a single block of threads, and sorts it with all of them
        tau = flat.sort().values[k - 1] if flat.is_cuda else flat.kthvalue(k).values
        for n in free:
            d = now[n] - then[n]
            back = then[n] + d.sign() * (d.abs() - tau).clamp_min(0)
            now[n].copy_(torch.where(d.abs() <= tau, then[n], back))  # with the sign of a zero, too

    def problems(self) -> list[str]:
        found = super().problems()
        if not 0 <= self.ratio <= 1:
            found.append(
                f"ratio is {self.ratio}; it is the share of weights put back after the first step, from 0 to 1."
            )
        return found
