"""IEU: ascent on the forget set beside descent on the retain set, with strong weight decay and noise on the
weights.

Relearn-resistant influence elimination; only the paper's abstract could be read, which names the four parts:
gradient ascent, weight decay, weight noise, retain cross-entropy, and says that the effect weakens when an
attacker relearns with Adam. Everything else is ours: the objective CE(retain) - strength * CE(forget), with
the ascent turned off for samples whose true class has fallen to chance (plain ascent has no bottom); Gaussian
noise after each step, relative to each tensor's root mean square, shrinking linearly to 0 over the run so
that the last steps repair it; the rates.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.optim import Optimizer

from ..data.batch import Batch
from ..training.method import GradientMethod
from ..training.run import Run


@dataclass(frozen=True, kw_only=True)
class IEU(GradientMethod):
    """IEU: influence elimination that resists relearning: ascent, weight decay, weight noise, retain loss."""

    weight_decay: float = 5e-3
    clip: float | None = 1.0
    strength: float = 0.5  # weight of the ascent on the forget set
    noise: float = 0.01  # first step's noise, in parts of each tensor's root mean square

    needs: ClassVar = ("logits", "classes")
    search: ClassVar = {"lr": (3e-3, 1e-2, 3e-2), "strength": (0.2, 0.5, 1.0), "noise": (0.003, 0.01, 0.03)}
    schedule: ClassVar = "retain+forget"

    def loss(self, run: Run, forget: Batch | None, retain: Batch | None) -> Tensor:
        assert forget is not None and retain is not None
        keep = run.task.loss(run.model, retain).mean()
        losses = run.task.loss(run.model, forget)
        alive = losses.detach() < math.log(run.task.num_classes)  # above chance
        return keep - self.strength * torch.where(alive, losses, losses.detach()).mean()

    @torch.no_grad()
    def after_step(self, run: Run, optimizer: Optimizer) -> None:
        left = max(0.0, 1 - run.step / max(1, self.steps(run)))
        held, draws = self.frozen(run), self._draws(run)
        for name, weight in run.model.named_parameters():
            if self.noise and weight.requires_grad and name not in held:
                draw = torch.randn(weight.shape, generator=draws, device=draws.device).to(weight)
                step = self.noise * left * weight.square().mean().sqrt() * draw
                if run.mask is None:
                    weight.add_(step)
                else:  # not a product with the mask: -0.0 + 0.0 is another number
                    weight.copy_(torch.where(run.mask[name].to(step.device), weight + step, weight))

    def _draws(self, run: Run) -> torch.Generator:
        """The stream of the step's noise, where the weights are: a GPU would wait for millions of a CPU's draws. Its seed
        comes from the run's own stream, so that a resumed run and every process of a team draw the same."""
        own = run.generator("noise")
        if run.device.type != "cuda":
            return own
        seed = int(torch.randint(2**62, (), generator=own))
        return torch.Generator(run.device).manual_seed(seed)

    def problems(self) -> list[str]:
        found = super().problems()
        found += [
            f"{name} is {getattr(self, name)}; it must be at least 0."
            for name in ("strength", "noise")
            if getattr(self, name) < 0
        ]
        return found
