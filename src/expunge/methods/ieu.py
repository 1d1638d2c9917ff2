"""IEU: ascend on the forget set and descend on the retain set, with strong weight decay and noise on the weights.

    loss = CE(retain) - strength * CE(forget),    theta <- theta + noise_t * rms(theta) * N(0, 1) after each step

Source: a publication on relearn-resistant influence elimination. Only its abstract could be read.

Published: the abstract names four parts: gradient ascent, weight decay, weight noise and retain cross-entropy. It says
that the effect weakens if an attacker relearns with Adam.

Ours, everything else:
- The objective above. A forget sample stops contributing once its true class has fallen to chance, because plain ascent
  has no lower bound.
- The noise is relative to the root mean square of each tensor. It shrinks linearly to 0 over the run, so the last steps
  repair its damage.
- The learning rates.

Cost: One pass over the retain set for each epoch, with as many forget samples beside it, and one draw of noise
for each weight and step.

When not to use it: A published result has to be repeated: only the abstract could be read, so the method here
is mostly ours.
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
    """Ascend on the forget set with weight decay and weight noise, against relearning (IEU).

    Args:
        weight_decay: Weight decay of the optimizer.
        clip: Maximum L2 norm of a step's gradient. None disables clipping.
        strength: Weight of the ascent on the forget set.
        noise: Standard deviation of the first step's noise, as a share of each tensor's root mean square.
    """

    weight_decay: float = 5e-3
    clip: float | None = 1.0
    strength: float = 0.5
    noise: float = 0.01

    needs: ClassVar = ("logits", "classes")
    search: ClassVar = {"lr": (3e-3, 1e-2, 3e-2), "strength": (0.2, 0.5, 1.0), "noise": (0.003, 0.01, 0.03)}
    schedule: ClassVar = "retain+forget"

    def loss(self, run: Run, forget: Batch | None, retain: Batch | None) -> Tensor:
        """Return the retain loss minus the weighted loss of the forget samples that are above chance."""
        assert forget is not None and retain is not None
        retain_loss = run.task.loss(run.model, retain).mean()
        losses = run.task.loss(run.model, forget)
        above_chance = losses.detach() < math.log(run.task.num_classes)
        return retain_loss - self.strength * torch.where(above_chance, losses, losses.detach()).mean()

    @torch.no_grad()
    def after_step(self, run: Run, optimizer: Optimizer) -> None:
        """Add noise to the weights that may move."""
        remaining = max(0.0, 1 - run.step / max(1, self.steps(run)))
        frozen, generator = self.frozen(run), self._generator(run)
        for name, parameter in run.model.named_parameters():
            if self.noise and parameter.requires_grad and name not in frozen:
                draw = torch.randn(parameter.shape, generator=generator, device=generator.device).to(
                    parameter
                )
                step = self.noise * remaining * parameter.square().mean().sqrt() * draw
                if run.mask is None:
                    parameter.add_(step)
                else:
                    # a product with the mask would turn a weight of -0.0 into 0.0
                    moves = run.mask[name].to(step.device)
                    parameter.copy_(torch.where(moves, parameter + step, parameter))

    def _generator(self, run: Run) -> torch.Generator:
        """Return the random stream of the step's noise, on the device of the model.

        A GPU would wait for millions of numbers drawn on the CPU. The seed of its stream comes from the run's stream, so a
        resumed run and every process of a distributed run draw the same numbers.
        """
        stream = run.generator("noise")
        if run.device.type != "cuda":
            return stream
        seed = int(torch.randint(2**62, (), generator=stream))
        return torch.Generator(run.device).manual_seed(seed)

    def problems(self) -> list[str]:
        problems = super().problems()
        problems += [
            f"{name} is {getattr(self, name)}; it must be at least 0."
            for name in ("strength", "noise")
            if getattr(self, name) < 0
        ]
        return problems
