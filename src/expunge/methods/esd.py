"""ESD: teach the model to predict, for the forgotten condition, the opposite of what the condition used to add.

Gandikota, Materzynska, Fiotto-Kaufman, Bau, "Erasing Concepts from Diffusion Models", ICCV 2023, arXiv:2303.07345.

Published: x_t is drawn from the frozen model under the concept c (guidance 3, stopped at a random step); the target is
eps0(null) - eta * (eps0(c) - eps0(null)) with eta = 1, eps0 the frozen model; only the answer to c is trained; ESD-x
trains cross-attention, ESD-u everything else (here the `weights` of `erase`, see `expunge.generation.pipelines`). The authors' present
code starts from eps0(c) with eta = 2 instead (`base="concept"`). No training data is needed; nothing holds the rest in place.

Ours: `source="data"` takes x_t from noised forget samples (cheaper, but needs them). A pass over the forget set only says how
many steps are taken and which conditions are erased.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

import torch
from torch import Tensor

from ..data.batch import Batch
from ..generation.sampling import Sampler
from ..training.method import GradientMethod
from ..training.run import Run

if TYPE_CHECKING:
    from ..tasks.diffusion import Diffusion


@dataclass(frozen=True, kw_only=True)
class ESD(GradientMethod):
    """ESD: negative guidance as the training target of the forgotten condition."""

    epochs: int = 10
    lr: float = 1e-4
    optimizer: Literal["sgd", "adam", "adamw"] = "adam"
    weight_decay: float = 0.0
    batch_size: int = 64
    clip: float | None = 1.0
    eta: float = 1.0  # strength of the negative guidance
    base: Literal["null", "concept"] = "null"  # what the negative direction is added to
    source: Literal["model", "data"] = "model"  # where noisy images come from
    sample_steps: int = 20  # of the sampler that makes them
    guidance: float = 2.0  # w of that sampler; the paper's scale 3

    tasks: ClassVar = ("diffusion",)
    data: ClassVar = ("forget",)
    schedule: ClassVar = "forget"
    search: ClassVar = {"lr": (1e-5, 5e-5, 1e-4, 3e-4), "eta": (1.0, 2.0)}

    def loss(self, run: Run, forget: Batch | None, retain: Batch | None) -> Tensor:
        assert forget is not None
        task: Diffusion = run.task  # type: ignore[assignment]
        with torch.no_grad():
            x, t = self._noisy(run, task, forget)
            asked = task.predict(run.original, x, t, forget.y)
            free = task.predict(run.original, x, t, torch.full_like(forget.y, task.null))
            target = (free if self.base == "null" else asked) - self.eta * (asked - free)
        return task.error(task.predict(run.model, x, t, forget.y), target).mean()

    def _noisy(self, run: Run, task: Diffusion, forget: Batch) -> tuple[Tensor, Tensor]:
        """Noisy images (B, C, H, W) of the condition, and their steps (B,)."""
        images = task.images(forget)
        if self.source == "data":
            noisy = task.add_random_noise(images)
            return noisy.x, noisy.t
        sampler = Sampler(kind="ddim", steps=self.sample_steps, guidance=self.guidance)
        stop = int(torch.randint(0, self.sample_steps, (), generator=run.generator("esd")))
        x, at = sampler.part(run.original, task, torch.randn_like(images), forget.y, stop)
        return x, torch.full((len(x),), at, device=x.device)

    def problems(self) -> list[str]:
        found = super().problems()
        if self.sample_steps < 1:
            found.append(f"sample_steps is {self.sample_steps}; it must be at least 1.")
        return found
