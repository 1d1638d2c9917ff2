"""Diffusion models that draw a class, or a prompt, on request: noise-prediction loss, and "as if another was asked for".

A model is called as `model(x_t, t, y)` with noisy images (B, C, H, W), time steps (B,) and conditions (B,), and gives a
tensor of the images' shape or an object with `.sample`: a plain diffusers `UNet2DModel` with `num_class_embeds =
num_classes + 1` is one. Conditions run from 0; `num_classes` itself is the null condition of classifier-free guidance.

Sources: Ho et al., DDPM, arXiv:2006.11239 (the loss); Ho and Salimans, arXiv:2207.12598 (the null condition); Fan et
al., SalUn, ICLR 2024, arXiv:2310.12508, equation 6 (`relabel_loss`).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ..data.batch import Batch, to_device
from ..data.samples import Samples
from ..errors import ModelError, raise_all
from ..torch_utils.module_state import device_of, evaluating
from .task import Task, parameter_problems


@dataclass(frozen=True, eq=False)
class Noisy:
    """Noised samples: `x` (B, C, H, W) at steps `t` (B,), and what a model of this prediction type should answer."""

    x: Tensor
    t: Tensor
    target: Tensor


@dataclass(frozen=True, eq=False)
class Diffusion(Task):
    """The task of a conditional diffusion model with `num_classes` conditions.

    Losses are means over the elements (C * H * W) of a sample, both in `loss` and in `relabel_loss`. SalUn's released
    code takes the mean in the forget term but the sum in the retain term: its alpha of 1e-3 on 3 x 32 x 32 images is
    `retain_weight = 1e-3 * 3072 = 3.07` here (and 12.3 for 3 x 64 x 64 at the same alpha).

    The target of `relabel_loss` comes from the changing model itself, without gradient and in eval mode (the published
    form, less its dropout and dropped conditions), or from `teacher` where one is given: a frozen copy that cannot drift.
    """

    num_classes: int
    steps: int = 1000  # T
    beta_start: float = 1e-4
    beta_end: float = 0.02
    beta_schedule: Literal["linear", "scaled_linear", "cosine"] = "linear"
    prediction: Literal["epsilon", "v_prediction", "sample"] = "epsilon"
    condition_drop: float = 0.1  # share of conditions that become null in a training step; never in eval mode
    pixels: bool = (
        True  # inputs are images in [0, 1], which the model sees in [-1, 1]; False: latents, seen as they are
    )
    teacher: nn.Module | None = None
    # share of the signal's variance left at each step, where no schedule above gives it; 0 at the last means none is left
    levels: tuple[float, ...] | None = None

    name = "diffusion"
    offers = ("relabel", "other_labels", "classes", "noise")

    @property
    def null(self) -> int:
        """The condition that asks for anything."""
        return self.num_classes

    @cached_property
    def signal(self) -> Tensor:
        """Share of the signal's variance left at each step (T,), the cumulated product of 1 - beta, in float32."""
        if self.levels is not None:
            return torch.tensor(self.levels, dtype=torch.float32)
        if self.beta_schedule == "cosine":  # Nichol and Dhariwal, arXiv:2102.09672
            at = (
                (torch.arange(self.steps + 1, dtype=torch.float64) / self.steps + 0.008)
                / 1.008
                * torch.pi
                / 2
            )
            beta = (1 - at[1:].cos() ** 2 / at[:-1].cos() ** 2).clamp(max=0.999)
        elif self.beta_schedule == "linear":
            beta = torch.linspace(self.beta_start, self.beta_end, self.steps, dtype=torch.float64)
        else:
            beta = (
                torch.linspace(self.beta_start**0.5, self.beta_end**0.5, self.steps, dtype=torch.float64) ** 2
            )
        return (1 - beta).cumprod(0).float()

    def signal_on(self, device: torch.device) -> Tensor:
        """`signal` on `device`, to_device there once: to_device at every step, it would make every step wait for a GPU's queue."""
        kept: dict[torch.device, Tensor] = self.__dict__.setdefault("_signals", {})
        if device not in kept:
            kept[device] = self.signal.to(device)
        return kept[device]

    def times(self, count: int, device: torch.device, generator: torch.Generator | None = None) -> Tensor:
        """Random steps (count,), half of them mirrored (t and T - 1 - t), which steadies the loss of a batch."""
        half = torch.randint(0, self.steps, (count // 2 + 1,), device=device, generator=generator)
        return torch.cat([half, self.steps - 1 - half])[:count]

    def noised(self, x: Tensor, t: Tensor, noise: Tensor) -> Noisy:
        """Images or latents `x` (B, C, H, W), in the task's range, with `noise` of their shape at steps `t` (B,)."""
        x = x * 2 - 1 if self.pixels else x
        a = self.signal_on(x.device)[t].view(-1, *[1] * (x.ndim - 1))
        target = {"epsilon": noise, "sample": x, "v_prediction": a.sqrt() * noise - (1 - a).sqrt() * x}[
            self.prediction
        ]
        return Noisy(a.sqrt() * x + (1 - a).sqrt() * noise, t, target)

    def draw(self, x: Tensor, generator: torch.Generator | None = None) -> Noisy:
        """`x` at random steps with random noise: from torch's global state, or from a generator on the CPU."""
        if generator is None:
            return self.noised(x, self.times(len(x), x.device), torch.randn_like(x))
        cpu = torch.device("cpu")
        noise = torch.randn(x.shape, generator=generator).to(x)
        return self.noised(x, self.times(len(x), cpu, generator).to(x.device), noise)

    def predict(self, model: nn.Module, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        """What the model predicts (B, C, H, W), in float32; a learned variance beside it is left out."""
        out: Any = model(x, t, y)
        out = out if isinstance(out, Tensor) else out.sample
        return out[:, : x.shape[1]].float()

    def noise_per(self, t: Tensor, axes: int = 4) -> Tensor:
        """How much noise a unit of the prediction stands for at steps `t` (B,), as (B, 1, ...) of so many axes.

        The implied noise is linear in the prediction: eps = v sqrt(a) + x_t sqrt(1 - a) = (x_t - x_0 sqrt(a)) / sqrt(1 - a).
        """
        a = self.signal_on(t.device)[t].view(-1, *[1] * (axes - 1))
        return {"epsilon": torch.ones_like(a), "v_prediction": a.sqrt(), "sample": -(a / (1 - a)).sqrt()}[
            self.prediction
        ]

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Mean squared error of the prediction (B,), with some conditions dropped if the model is in training mode."""
        y = batch.y
        if model.training and self.condition_drop:
            y = torch.where(torch.rand(len(y), device=y.device) < self.condition_drop, self.null, y)
        noisy = self.draw(self.images(batch))
        return self.error(self.predict(model, noisy.x, noisy.t, y), noisy.target)

    def relabel_loss(self, model: nn.Module, batch: Batch, y: Tensor) -> Tensor:
        """Mean squared distance (B,) from the prediction under the batch's conditions to that under `y` (no gradient)."""
        noisy = self.draw(self.images(batch))
        judge = self.teacher if self.teacher is not None else model
        with torch.no_grad(), evaluating(judge):
            target = self.predict(judge, noisy.x, noisy.t, y)
        return self.error(self.predict(model, noisy.x, noisy.t, batch.y), target)

    def other_labels(self, y: Tensor, generator: torch.Generator) -> Tensor:
        """Return conditions (B,) other than `y`, uniform over the rest; never the null condition."""
        if self.num_classes < 2:
            raise ModelError(
                f"there are {self.num_classes} conditions, so none is another's; use a method without random labels."
            )
        shift = torch.randint(1, self.num_classes, y.shape, generator=generator)
        return (y + to_device(shift, y.device)) % self.num_classes

    def sample_scores(self, model: nn.Module, batch: Batch) -> Tensor:
        """Minus the loss (B,), with the same steps and noise at each call, so that curves show the model alone."""
        seed = (
            int(batch.index[0]) if len(batch.index) else 0
        )  # batches of few samples need steps of their own
        noisy = self.draw(self.images(batch), torch.Generator().manual_seed(seed))
        return -self.error(self.predict(model, noisy.x, noisy.t, batch.y), noisy.target)

    @staticmethod
    def error(prediction: Tensor, target: Tensor) -> Tensor:
        """Squared error, mean over all but the first axis (B,), in float32."""
        return (prediction - target.float()).square().flatten(1).mean(1)

    @staticmethod
    def images(batch: Batch) -> Tensor:
        """The batch's images. Raises `ModelError` for other inputs."""
        if not isinstance(batch.x, Tensor) or batch.x.ndim != 4:
            shape = sorted(batch.x) if isinstance(batch.x, dict) else tuple(batch.x.shape)
            raise ModelError(
                f"inputs came as {shape}; diffusion needs images or latents as one tensor (N, C, H, W)."
            )
        return batch.x

    def check(self, model: nn.Module, samples: Samples) -> None:
        """Raise `ModelError` with every reason why the model cannot be unlearned on these samples."""
        problems = parameter_problems(model)
        labels = samples.data.labels
        if not samples.data.has_classes:
            problems.append(
                f"labels are {labels.dtype} of shape {tuple(labels.shape)}; give one whole number per sample, its condition, shape (N,)."
            )
            raise_all(problems, ModelError)
        highest = int(labels.max())
        if highest >= self.num_classes:
            problems.append(
                f"labels run up to {highest}, the task has {self.num_classes} conditions; set num_classes."
            )
        raise_all(problems + self._forward_problems(model, samples), ModelError)

    def _forward_problems(self, model: nn.Module, samples: Samples) -> list[str]:
        few = samples.take(torch.arange(min(2, len(samples))))
        batch = next(few.batches(2, device=device_of(model)))
        x = self.images(batch)
        problems = []
        if self.pixels and (x.min() < 0 or x.max() > 1):
            problems.append(
                f"images run from {x.min():.2f} to {x.max():.2f}; give uint8, or floats in [0, 1] (latents: pixels=False)."
            )
        noisy = self.draw(x, torch.Generator().manual_seed(0))
        for y in (batch.y, torch.full_like(batch.y, self.null)):
            try:
                with evaluating(model), torch.inference_mode():
                    out = self.predict(model, noisy.x, noisy.t, y)
            except Exception as error:  # whatever a user's model raises is the message
                what = f"with condition {int(y[0])}" + (
                    " (null: the model needs num_classes + 1 conditions)" if y[0] == self.null else ""
                )
                problems.append(
                    f"the model fails on images {tuple(x.shape)} {what}: {type(error).__name__}: {error}"
                )
                continue
            if out.shape != x.shape:
                problems.append(
                    f"the model predicts {tuple(out.shape)} for images {tuple(x.shape)}; the shapes must be the same."
                )
            elif not out.isfinite().all():
                problems.append(
                    "the model's predictions on the retain set are not finite; check the checkpoint and the inputs' scale."
                )
        return problems
