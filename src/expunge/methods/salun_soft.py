"""SalUn-soft: train with random labels and pull every weight to its original value by soft thresholding.

    d = theta - theta_0,    d <- sign(d) * max(|d| - tau, 0)    after each step

tau is chosen so that a given share of the weights returns to the original. This share falls linearly from `ratio` to 0
over the run. No mask is fixed beforehand.

Source: Fan et al., ICLR 2024, arXiv:2310.12508, appendix on soft thresholding.

Published: the update above.

Differences from the released code (`paper=True` follows it; OPTML-Group/Unlearn-Saliency, commit a6e89fd, `RL_proximal`):
- It takes a new anchor in each epoch, so it pulls to the weights of the last epoch. Ours is the original.
- It counts steps by epochs. With b_f and b_r batches of the two sets and E epochs, the share in epoch e (from 0) is
  ratio * (1 - (e (b_f + b_r) + 1) / (E (b_f + b_r))) after each step. It ends near ratio / E, so the last step still
  pulls weights back. Ours counts every step, and ends at 0.
- On CIFAR-10 it mixes both sets (order "mixed"), where the code of RL and SalUn takes one after the other. `paper=True`
  mixes them.
- It may draw the true label, as the code of RL does.

Not followed: the SVHN branch, whose steps on retain batches count from the epoch's first step.

Ours in both forms: a weight that returns to the anchor keeps its momentum. The paper does not mention momentum.

Cost: One pass over both sets for each epoch. Each step also finds a quantile of the displacements of all
weights and keeps the original beside the model.

When not to use it: There is no retain set, or steps must be cheap on a large model: every step looks at all
weights. For single samples, see salun.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch.optim import Optimizer

from ..masks.per_sample_gradients import to_full_precision
from ..training.run import Run
from ..training.schedule import Pair, steps_per_epoch
from .random_label import RandomLabel


@dataclass(frozen=True, kw_only=True)
class SalUnSoft(RandomLabel):
    """Train with random labels and soft thresholding toward the original weights (SalUn-soft).

    Args:
        lr: Learning rate.
        ratio: Share of the weights that return to the original after the first step, from 0 to 1.
        paper: Follow the released code: an anchor and a share for each epoch, and labels that may be the true ones.
    """

    lr: float = 0.013
    ratio: float = 0.5
    paper: bool = False

    published: ClassVar = {"order": "mixed"}
    search: ClassVar = {"lr": (5e-4, 1e-3, 2e-3, 5e-3, 8e-3, 1.3e-2, 2e-2, 3e-2, 5e-2)}

    def pairs(self, run: Run) -> Iterator[Pair]:
        if self.paper:
            run.memo["anchor"] = {
                n: p.detach().clone() for n, p in run.model.named_parameters() if p.requires_grad
            }
        yield from super().pairs(run)

    def share(self, run: Run) -> float:
        """Return the share of the weights that return to the anchor after the current step."""
        if not self.paper:
            return self.ratio * (1 - run.step / max(1, self.steps(run)))
        batches = steps_per_epoch(run, "sequential", self.batch_size)
        return self.ratio * (1 - (run.epoch * batches + 1) / (self.epochs * batches))

    @torch.no_grad()
    def after_step(self, run: Run, optimizer: Optimizer) -> None:
        """Shrink the displacement of every weight from the anchor by tau."""
        names = [n for n, p in run.model.named_parameters() if p.requires_grad]
        current = dict(run.model.named_parameters())
        anchor = run.memo["anchor"] if self.paper else dict(run.original.named_parameters())
        # the share counts only the weights that may move
        moved = {n: (current[n] - anchor[n]).abs() for n in names}
        free = [m if run.mask is None else m[run.mask[n]] for n, m in moved.items()]
        distances = torch.cat([to_full_precision(m.flatten()) for m in free])
        k = int(self.share(run) * len(distances))
        if k == 0:
            return
        # kthvalue uses a single block of threads for one long row on a GPU, sort uses all of them
        tau = distances.sort().values[k - 1] if distances.is_cuda else distances.kthvalue(k).values
        for n in names:
            d = current[n] - anchor[n]
            shrunk = anchor[n] + d.sign() * (d.abs() - tau).clamp_min(0)
            # copying the anchor keeps the sign of a zero, which the sum would lose
            current[n].copy_(torch.where(d.abs() <= tau, anchor[n], shrunk))

    def problems(self) -> list[str]:
        problems = super().problems()
        if not 0 <= self.ratio <= 1:
            problems.append(f"ratio is {self.ratio}; it must be a share of the weights, from 0 to 1.")
        return problems
