"""SFRon: ascend on the forget set through a mask, with more weight on memorised samples, between retain steps.

    forget step: loss = -a_t * sum(w_i * l_i),  w_i = l_i^-lambda / sum(l_j^-lambda),  a_t = a * (1 + cos(pi * t / T)) / 2
    it moves only weights with F_f >= gamma * F_r;  retain step: loss = mean l;  theta <- (1 - beta) * theta_before + beta * theta

l is the loss of a sample, F_f and F_r are the diagonals of the Fisher information of the two sets, t counts retain steps.
Every `every`-th retain step follows a forget step.

Source: Huang, Cheng, Zheng, Wang, He, Li, Huang, "Unified Gradient-Based Machine Unlearning with Remain Geometry
Enhancement", NeurIPS 2024, arXiv:2409.19732. The full text could not be read: rule and settings are from the authors' code
(K1nght/Unified-Unlearning-w-Remain-Geometry, commit 36bb7f6).

Published:
- CIFAR-10, 10 % of the samples: 1,500 retain steps of SGD, learning rate 0.01 (cosine), momentum 0.9, weight decay 5e-4,
  batch size 128, a = 25, lambda 0.5, gamma 1, a forget step every 5 steps, whose gradient has a norm of at most 7.
- beta is 1 in both presets of the code, so the last formula does nothing. Below 1 it is the slow step of the paper.

Differences from the released code (`as_released=True` follows it):
- The code masks the gradient alone, so weight decay and momentum move the other weights in a forget step too. Here they stay.
- The code squares the gradients of batch means. Here F has those of single samples.
- The code calls a weight without any gradient salient. Here it is not.

Ours: 5 epochs instead of 1,500 steps, and at most `samples` samples of each set for F.

Cost: The Fisher information of at most `samples` samples of each set, then one pass over the retain set for
each epoch, and a forget step after every `every`-th retain step.

When not to use it: There is no retain set, or its losses are noisy: the mask compares the importances of both
sets weight by weight.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor
from torch.optim import Optimizer

from ..data.batch import Batch
from ..data.samples import Samples
from ..masks.per_sample_gradients import NamedTensors, fisher_diagonal, random_samples
from ..training.method import GradientMethod
from ..training.run import Run
from ..training.schedule import Pair, pairs, steps_per_epoch
from ._gradients import free_gradients, inner_product, squared_batch_gradients, with_gradients

# what the code adds to losses and Fisher information before it divides
TINY = 1e-15


def adaptive_weights(losses: Tensor, exponent: float) -> Tensor:
    """Return l^-lambda (B,) of the losses (B,), divided by its sum, without a gradient."""
    weights = 1 / (losses.detach().pow(exponent) + TINY)
    return weights / weights.sum()


@dataclass(frozen=True, kw_only=True)
class SFRon(GradientMethod):
    """Ascend on memorised forget samples through a mask, between retain steps (SFRon).

    Args:
        epochs: Number of passes over the retain set.
        batch_size: Samples per step.
        lr_schedule: Course of the learning rate.
        strength: a, the factor on the ascent at the start. It falls to 0 by a cosine.
        exponent: lambda, how much more a sample with a small loss weighs. 0 weighs all alike.
        every: Number of retain steps from one forget step to the next.
        threshold: gamma, how many times as important for the forget set as for the retain set a weight must be.
        forget_clip: Maximum L2 norm of a forget step's gradient.
        beta: Share of each step that is kept, above 0 and at most 1.
        samples: Samples of each set for the Fisher information. 0 uses all.
        as_released: Follow the released code: mask the gradient alone, and square the gradients of batch means.
    """

    epochs: int = 5
    batch_size: int = 128
    lr_schedule: Literal["constant", "linear", "cosine", "one_cycle", "multistep"] = "cosine"
    strength: float = 25.0
    exponent: float = 0.5
    every: int = 5
    threshold: float = 1.0
    forget_clip: float = 7.0
    beta: float = 1.0
    samples: int = 2000
    as_released: bool = False

    published: ClassVar = {"as_released": True, "samples": 0, "max_drop": 100.0}
    search: ClassVar = {"lr": (1e-3, 3e-3, 1e-2, 3e-2), "strength": (1.0, 5.0, 25.0, 100.0, 500.0)}
    schedule: ClassVar = "retain+forget"

    def prepare(self, run: Run) -> None:
        """Select the weights that forget steps may move."""
        forget, retain = (self._fisher(run, s) for s in (run.split.forget, run.split.retain))
        run.memo["salient"] = {
            n: (f + TINY) / (retain[n] + TINY) >= self.threshold
            if self.as_released
            else (f >= self.threshold * retain[n]) & (f > 0)
            for n, f in forget.items()
        }

    def _fisher(self, run: Run, samples: Samples) -> NamedTensors:
        few = random_samples(samples, self.samples, run.generator("fisher"))
        if self.as_released:
            return squared_batch_gradients(run.model, run.task, few, self.batch_size)
        return fisher_diagonal(run.model, run.task, few)

    def pairs(self, run: Run) -> Iterator[Pair]:
        done = run.epoch * steps_per_epoch(run, "retain", self.batch_size)
        for t, (forget, retain) in enumerate(pairs(run, self.schedule, self.batch_size), done):
            run.memo["t"] = t
            if t % self.every == 0:
                yield forget, None
            yield None, retain

    def steps(self, run: Run) -> int:
        retain_steps = self.epochs * steps_per_epoch(run, "retain", self.batch_size)
        return retain_steps + -(-retain_steps // self.every)

    def loss(self, run: Run, forget: Batch | None, retain: Batch | None) -> Tensor:
        """Return the loss of a forget step or of a retain step."""
        if self.beta < 1 and "slow" not in run.memo:
            run.memo["slow"] = _values(run)
        if forget is None:
            assert retain is not None
            return run.task.loss(run.model, retain).mean()
        losses = run.task.loss(run.model, forget)
        total = self.epochs * steps_per_epoch(run, "retain", self.batch_size)
        strength = self.strength * (1 + math.cos(math.pi * run.memo["t"] / total)) / 2
        loss = -strength * (adaptive_weights(losses, self.exponent) * losses).sum()
        salient = run.memo["salient"]
        gradients = {n: g * salient[n] for n, g in free_gradients(run, loss).items() if n in salient}
        factor = (self.forget_clip / (inner_product(gradients, gradients).sqrt() + 1e-6)).clamp(max=1)
        if not self.as_released:
            run.memo["before"] = _values(run)
        return with_gradients(run, loss, {n: g * factor.to(g.dtype) for n, g in gradients.items()})

    @torch.no_grad()
    def after_step(self, run: Run, optimizer: Optimizer) -> None:
        """Restore what a forget step may not move, and keep the share `beta` of a pair of steps."""
        before = run.memo.pop("before", None)
        if before is not None:
            for name, parameter in run.model.named_parameters():
                if name in before:
                    salient = run.memo["salient"][name]
                    parameter.copy_(torch.where(salient, parameter, before[name]))
        elif "slow" in run.memo:
            slow = run.memo.pop("slow")
            for name, parameter in run.model.named_parameters():
                if name in slow:
                    # what did not move keeps its bits, also a weight of -0.0
                    moved = slow[name].lerp(parameter, self.beta)
                    parameter.copy_(torch.where(parameter == slow[name], parameter, moved))

    def details(self, run: Run) -> dict[str, Any]:
        """Return the share of weights that forget steps may move."""
        salient = run.memo["salient"].values()
        return {"sfron": {"salient": sum(int(m.sum()) for m in salient) / sum(m.numel() for m in salient)}}

    def problems(self) -> list[str]:
        problems = super().problems()
        limits = {"strength": 0, "exponent": 0, "every": 1, "threshold": 0, "samples": 0}
        problems += [
            f"{name} is {getattr(self, name)}; it must be at least {low}."
            for name, low in limits.items()
            if getattr(self, name) < low
        ]
        if self.forget_clip <= 0:
            problems.append(f"forget_clip is {self.forget_clip}; it must be above 0.")
        if not 0 < self.beta <= 1:
            problems.append(f"beta is {self.beta}; it must be above 0 and at most 1.")
        return problems


def _values(run: Run) -> NamedTensors:
    return {n: p.detach().clone() for n, p in run.model.named_parameters() if p.requires_grad}
