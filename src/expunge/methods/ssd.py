"""SSD: shrink the weights that matter far more for the forget set than for the whole training set.

Foster, Schoepf, Brintrup, "Fast Machine Unlearning without Retraining through Selective Synaptic Dampening",
AAAI 2024, arXiv:2308.07707 (equation 6).

Published: importances are the diagonal of the empirical Fisher matrix, on the forget set (I_f) and on the
whole training set (I_D); where I_f > alpha I_D the weight becomes min(lambda I_D / I_f, 1) times itself;
alpha = 10 and lambda = 1 on convolutional networks. The released code squares the gradients of batch means;
`paper_exact=True` does so too. Ours: squares of single samples' gradients, as the formula says, and a random
part of the training set for I_D (`samples`). Since the forget set is part of the training set, I_f / I_D
never exceeds n / n_f when both are taken on all samples: a forget set of 10 % needs alpha below 10 to move
anything.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from ..data.samples import Samples
from ..masks.per_sample_gradients import Weights, fisher_diagonal, some, trainable, wide
from ..torch_utils.module_state import evaluating
from ..training.method import Method
from ..training.run import Run


@dataclass(frozen=True, kw_only=True)
class SSD(Method):
    """SSD: selective synaptic dampening, no training."""

    alpha: float = 10.0  # how many times as important for the forget set a weight must be
    dampening: float = 1.0  # lambda: strength; smaller shrinks more
    samples: int = 5000  # of the training set, for its importances; 0 for all
    batch_size: int = 64  # with paper_exact: samples whose mean gradient is squared
    paper_exact: bool = False  # squares of batch gradients, on all samples, as the released code

    search: ClassVar = {"alpha": (1.5, 2.0, 3.0, 5.0, 10.0, 25.0), "dampening": (0.1, 0.5, 1.0)}

    def apply(self, run: Run) -> None:
        of_forget = self.importances(run, run.split.forget)
        count = 0 if self.paper_exact else self.samples
        # forget and retain set: samples of the forgotten kind that were not named are not shown to a method
        shown = torch.cat([run.split.forget.index, run.split.retain.index]).sort().values
        every = Samples(run.split.forget.data, shown)
        of_all = self.importances(run, some(every, count, run.generator("importance")))
        shrunk = 0
        with torch.no_grad():
            for name, weight in run.model.named_parameters():
                if name in of_all:
                    chosen = of_forget[name] > self.alpha * of_all[name]
                    ratio = (self.dampening * of_all[name] / of_forget[name]).clamp(max=1)
                    weight.copy_(torch.where(chosen, weight * ratio, weight))
                    shrunk += int(chosen.sum())
        run.memo["dampened"] = shrunk

    def importances(self, run: Run, samples: Samples) -> Weights:
        """The diagonal of the Fisher matrix on `samples`, or the code's squares of batch gradients."""
        if not self.paper_exact:
            return fisher_diagonal(run.model, run.task, samples)
        named = {n: p for n, p in run.model.named_parameters() if p.requires_grad}
        total, count = {n: wide(torch.zeros_like(p)) for n, p in trainable(run.model).items()}, 0
        with evaluating(run.model):
            for batch in samples.batches(self.batch_size, device=run.device):
                loss = run.task.loss(run.model, batch).mean()
                found = torch.autograd.grad(loss, list(named.values()), allow_unused=True)
                for n, g in zip(named, found, strict=True):
                    if g is not None:
                        total[n] += wide(g).square()
                count += 1
        return {n: t / count for n, t in total.items()}

    def details(self, run: Run) -> dict[str, Any]:
        return {"ssd": {"dampened": run.memo["dampened"]}}

    def problems(self) -> list[str]:
        found = [
            f"{name} is {getattr(self, name)}; it must be above 0."
            for name in ("alpha", "batch_size")
            if getattr(self, name) <= 0
        ]
        found += [
            f"{name} is {getattr(self, name)}; it must be at least 0."
            for name in ("dampening", "samples")
            if getattr(self, name) < 0
        ]
        return found
