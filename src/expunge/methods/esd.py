"""ESD: train the forgotten condition to predict the opposite of its own contribution.

    target = eps0(x_t, null) - eta * (eps0(x_t, c) - eps0(x_t, null)),    loss = |eps(x_t, c) - target|^2

eps0 is the frozen original. x_t is drawn from it under the forgotten condition c and stopped at a random step.

Source: Gandikota, Materzynska, Fiotto-Kaufman, Bau, "Erasing Concepts from Diffusion Models", ICCV 2023,
arXiv:2303.07345.

Published: the loss with eta = 1, and sampling with guidance 3. ESD-x trains cross-attention; ESD-u trains everything else
(the `weights` of `erase`, see `expunge.generation.trainable`). The method needs no training data, and no term preserves
the other conditions.

Difference from the authors' current code: it starts from eps0(x_t, c) with eta = 2. Use `base="concept"` for this form.

Ours: `source="data"` takes x_t from noised forget samples, which is cheaper but needs them. A pass over the forget set
only sets the number of steps and the conditions.

Cost: One pass over the forget set for each epoch. Each sample takes two predictions of the frozen original, and
with `source="model"` up to `sample_steps` more to draw x_t.

When not to use it: Kept classes matter and are near the forgotten one: no term preserves them. On digits it
lost 7 points (docs/generation_results.md).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

import torch
from torch import Tensor

from ..data.batch import Batch
from ..tasks.sampling import Sampler
from ..training.method import GradientMethod
from ..training.run import Run

if TYPE_CHECKING:
    from ..tasks.diffusion import Diffusion


@dataclass(frozen=True, kw_only=True)
class ESD(GradientMethod):
    """Train the forgotten condition toward its negative guidance (ESD).

    Args:
        epochs: Number of passes over the forget set.
        lr: Learning rate.
        optimizer: Optimizer that takes the steps.
        weight_decay: Weight decay of the optimizer.
        batch_size: Images per step.
        clip: Maximum L2 norm of a step's gradient. None disables clipping.
        eta: Strength of the negative guidance.
        base: Prediction that the negative guidance is added to: under the null condition, or under the concept.
        source: Where noisy images come from: sampled from the original ("model") or noised forget samples ("data").
        sample_steps: Steps of the sampler that draws the noisy images.
        guidance: Guidance weight w of this sampler. The default 2.0 is the paper's scale 3.
    """

    epochs: int = 10
    lr: float = 1e-4
    optimizer: Literal["sgd", "adam", "adamw"] = "adam"
    weight_decay: float = 0.0
    batch_size: int = 64
    clip: float | None = 1.0
    eta: float = 1.0
    base: Literal["null", "concept"] = "null"
    source: Literal["model", "data"] = "model"
    sample_steps: int = 20
    guidance: float = 2.0

    published: ClassVar = {"guidance": 3.0}
    needs: ClassVar = ("noise",)
    data: ClassVar = ("forget",)
    schedule: ClassVar = "forget"
    search: ClassVar = {"lr": (1e-5, 5e-5, 1e-4, 3e-4), "eta": (1.0, 2.0)}

    def loss(self, run: Run, forget: Batch | None, retain: Batch | None) -> Tensor:
        """Return the distance between the prediction under the condition and the target."""
        assert forget is not None
        task: Diffusion = run.task  # type: ignore[assignment]
        with torch.no_grad():
            x, t = self._noisy(run, task, forget)
            conditional = task.predict(run.original, x, t, forget.y)
            unconditional = task.predict(run.original, x, t, torch.full_like(forget.y, task.null))
            base = unconditional if self.base == "null" else conditional
            target = base - self.eta * (conditional - unconditional)
        return task.error(task.predict(run.model, x, t, forget.y), target).mean()

    def _noisy(self, run: Run, task: Diffusion, forget: Batch) -> tuple[Tensor, Tensor]:
        """Return noisy images (B, C, H, W) of the conditions, and their diffusion steps (B,)."""
        images = task.images(forget)
        if self.source == "data":
            noisy = task.add_random_noise(images)
            return noisy.x, noisy.t
        sampler = Sampler(kind="ddim", steps=self.sample_steps, guidance=self.guidance)
        stop = int(torch.randint(0, self.sample_steps, (), generator=run.generator("esd")))
        x, step = sampler.part(run.original, task, torch.randn_like(images), forget.y, stop)
        return x, torch.full((len(x),), step, device=x.device)

    def problems(self) -> list[str]:
        problems = super().problems()
        if self.sample_steps < 1:
            problems.append(f"sample_steps is {self.sample_steps}; it must be at least 1.")
        return problems
