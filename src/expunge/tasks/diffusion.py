"""The task of conditional diffusion models: the noise-prediction loss, and the loss under another condition.

A model is called as `model(x_t, t, y)` with noisy images (B, C, H, W), time steps (B,) and conditions (B,). It returns a
tensor with the shape of the images, or an object, dict or tuple with such a tensor (`.sample`). A diffusers `UNet2DModel` with
`num_class_embeds = num_classes + 1` is such a model. Conditions run from 0 to `num_classes - 1`; `num_classes` is the
null condition of classifier-free guidance.

Sources: the loss, Ho et al., DDPM, arXiv:2006.11239. The null condition, Ho and Salimans, arXiv:2207.12598.
`relabel_loss`, Fan et al., SalUn, ICLR 2024, arXiv:2310.12508, equation 6.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from ..data.batch import Batch, to_device
from ..data.samples import Samples
from ..errors import ModelError, raise_all
from ..torch_utils.module_state import device_of, evaluating
from .input_checks import input_problems
from .model_checks import lacks_values, parameter_problems
from .noise_schedule import BetaSchedule, Noisy, Prediction, mirrored_times, noise_factors, signal_levels
from .outputs import tensor_in
from .task import Task


@dataclass(frozen=True, eq=False)
class Diffusion(Task):
    """Define the losses of a conditional diffusion model.

    Losses are means over the elements (C * H * W) of a sample. The released code of SalUn takes the mean in the forget
    term but the sum in the retain term. Its alpha of 1e-3 on 3 x 32 x 32 images is `retain_weight = 1e-3 * 3072 = 3.07`
    here, and 12.3 on 3 x 64 x 64 images.

    The target of `relabel_loss` comes from the changing model, without gradient and in eval mode. This is the published
    form without its dropout and dropped conditions. A `teacher` gives a target that does not change.

    Args:
        num_classes: Number of conditions, without the null condition.
        steps: Number of noise levels T.
        beta_start: Noise variance of the first step.
        beta_end: Noise variance of the last step.
        beta_schedule: Course of the noise variance between them. "cosine" uses neither.
        prediction: What the model predicts: the noise, v, or the image.
        condition_drop: Share of conditions that become null in a training step. No condition is dropped in eval mode.
        pixels: True: inputs are images in [0, 1], which the model sees in [-1, 1]. False: inputs are latents, which the
            model sees unchanged.
        teacher: A frozen model that gives the target of `relabel_loss`.
        levels: Share of the signal's variance left at each step, in place of a schedule. 0 means that no signal is left.

    Example:
        >>> task = Diffusion(num_classes=10)
        >>> unlearned = unlearn(model, split, presets.method("salun", "cifar10"), task)
    """

    num_classes: int
    steps: int = 1000
    beta_start: float = 1e-4
    beta_end: float = 0.02
    beta_schedule: BetaSchedule = "linear"
    prediction: Prediction = "epsilon"
    condition_drop: float = 0.1
    pixels: bool = True
    teacher: nn.Module | None = None
    levels: tuple[float, ...] | None = None

    name = "diffusion"
    offers = ("relabel", "other_labels", "classes", "noise")

    @property
    def null(self) -> int:
        """The null condition of classifier-free guidance."""
        return self.num_classes

    @cached_property
    def signal(self) -> Tensor:
        """Share of the signal's variance left at each step (T,), float32."""
        if self.levels is not None:
            return torch.tensor(self.levels, dtype=torch.float32)
        return signal_levels(self.steps, self.beta_schedule, self.beta_start, self.beta_end)

    def signal_on(self, device: torch.device) -> Tensor:
        """Return `signal` on `device`. The copy is made once: a copy at each step would wait for the GPU's queue."""
        copies: dict[torch.device, Tensor] = self.__dict__.setdefault("_signals", {})
        if device not in copies:
            copies[device] = self.signal.to(device)
        return copies[device]

    def times(self, count: int, device: torch.device, generator: torch.Generator | None = None) -> Tensor:
        """Return random time steps (count,), of which half mirror the others: t and T - 1 - t."""
        return mirrored_times(self.steps, count, device, generator)

    def add_noise(self, x: Tensor, t: Tensor, noise: Tensor) -> Noisy:
        """Add noise to images or latents.

        Args:
            x: Inputs (B, C, H, W) in the range of the task.
            t: Time steps (B,).
            noise: Noise (B, C, H, W).

        Returns:
            The noisy inputs with the target of the prediction type. DDPM, equation 4.
        """
        x = x * 2 - 1 if self.pixels else x
        a = self.signal_on(x.device)[t].view(-1, *[1] * (x.ndim - 1))
        targets = {"epsilon": noise, "sample": x, "v_prediction": a.sqrt() * noise - (1 - a).sqrt() * x}
        return Noisy(a.sqrt() * x + (1 - a).sqrt() * noise, t, targets[self.prediction])

    def add_random_noise(self, x: Tensor, generator: torch.Generator | None = None) -> Noisy:
        """Add random noise to `x` at random time steps.

        Args:
            x: Inputs (B, C, H, W) in the range of the task.
            generator: A generator on the CPU. Default: torch's global state.
        """
        if generator is None:
            return self.add_noise(x, self.times(len(x), x.device), torch.randn_like(x))
        cpu = torch.device("cpu")
        noise = torch.randn(x.shape, generator=generator).to(x)
        return self.add_noise(x, self.times(len(x), cpu, generator).to(x.device), noise)

    def predict(self, model: nn.Module, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        """Return the prediction (B, C, H, W) in float32, without a learned variance."""
        out: Any = model(x, t, y)
        if not isinstance(out, Tensor):
            out = tensor_in(out, "sample", lambda s: s.shape[2:] == x.shape[2:], f"{tuple(x.shape)}")
        return out[:, : x.shape[1]].float()

    def noise_per(self, t: Tensor, axes: int = 4) -> Tensor:
        """Return how much the implied noise changes per unit of the prediction, at time steps `t` (B,).

        The factors have the shape (B, 1, ...), with `axes` axes.
        """
        return noise_factors(self.prediction, self.signal_on(t.device)[t].view(-1, *[1] * (axes - 1)))

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the mean squared error of the prediction (B,). In training mode some conditions become null."""
        y = batch.y
        if model.training and self.condition_drop:
            y = torch.where(torch.rand(len(y), device=y.device) < self.condition_drop, self.null, y)
        noisy = self.add_random_noise(self.images(batch))
        return self.error(self.predict(model, noisy.x, noisy.t, y), noisy.target)

    def relabel_loss(self, model: nn.Module, batch: Batch, y: Tensor) -> Tensor:
        """Return the mean squared distance (B,) between the predictions under the batch's conditions and under `y`.

        Only the prediction under the batch's conditions has a gradient. SalUn, equation 6.
        """
        noisy = self.add_random_noise(self.images(batch))
        teacher = self.teacher if self.teacher is not None else model
        with torch.no_grad(), evaluating(teacher):
            target = self.predict(teacher, noisy.x, noisy.t, y)
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
        """Return minus the loss (B,) with the same time steps and noise at each call, so that curves compare models."""
        # the first index as seed: small batches need different time steps
        seed = int(batch.index[0]) if len(batch.index) else 0
        noisy = self.add_random_noise(self.images(batch), torch.Generator().manual_seed(seed))
        return -self.error(self.predict(model, noisy.x, noisy.t, batch.y), noisy.target)

    @staticmethod
    def error(prediction: Tensor, target: Tensor) -> Tensor:
        """Return the mean squared error (B,) over all but the first axis, in float32."""
        return (prediction - target.float()).square().flatten(1).mean(1)

    @staticmethod
    def images(batch: Batch) -> Tensor:
        """Return the images of a batch.

        Raises:
            ModelError: If the inputs are not one tensor (N, C, H, W).
        """
        if not isinstance(batch.x, Tensor) or batch.x.ndim != 4:
            shape = sorted(batch.x) if isinstance(batch.x, dict) else tuple(batch.x.shape)
            raise ModelError(
                f"the inputs have the shape {shape}; diffusion needs images or latents as one tensor (N, C, H, W)."
            )
        return batch.x

    def check(self, model: nn.Module, samples: Samples) -> None:
        """Check that the model can be unlearned on these samples.

        Raises:
            ModelError: With every problem.
        """
        problems = parameter_problems(model) + input_problems(samples)
        labels = samples.data.labels
        if not samples.data.has_classes:
            problems.append(
                f"labels are {labels.dtype} of shape {tuple(labels.shape)}; give one whole number per sample, its condition, shape (N,)."
            )
            raise_all(problems, ModelError)
        highest = int(labels.max())
        if highest >= self.num_classes:
            problems.append(
                f"the labels run up to {highest}, but the task has {self.num_classes} conditions; set num_classes to at least "
                f"{highest + 1}."
            )
        problems += [] if lacks_values(model) else self._forward_problems(model, samples)
        raise_all(problems, ModelError)

    def _forward_problems(self, model: nn.Module, samples: Samples) -> list[str]:
        """Return the problems of two samples in the model, under their conditions and under null."""
        few = samples.take(torch.arange(min(2, len(samples))))
        batch = next(few.batches(2, device=device_of(model)))
        x = self.images(batch)
        problems = []
        if self.pixels and (x.min() < 0 or x.max() > 1):
            problems.append(
                f"the images run from {x.min():.2f} to {x.max():.2f}; pass uint8 images or floats in [0, 1]. "
                "For latents set pixels=False."
            )
        noisy = self.add_random_noise(x, torch.Generator().manual_seed(0))
        for y in (batch.y, torch.full_like(batch.y, self.null)):
            try:
                with evaluating(model), torch.inference_mode():
                    out = self.predict(model, noisy.x, noisy.t, y)
            # the user's model may raise anything, and its message is what helps
            except Exception as error:
                hint = " (null: the model needs num_classes + 1 conditions)" if y[0] == self.null else ""
                problems.append(
                    f"the model fails on images {tuple(x.shape)} with condition {int(y[0])}{hint}: "
                    f"{type(error).__name__}: {error}"
                )
                continue
            if out.shape != x.shape:
                problems.append(
                    f"the model predicts {tuple(out.shape)} for images {tuple(x.shape)}; the shapes must be the same."
                )
            elif not out.isfinite().all():
                problems.append(
                    "the model's predictions on the retain set are not finite; check the checkpoint and the scale of the "
                    "inputs."
                )
        return problems
