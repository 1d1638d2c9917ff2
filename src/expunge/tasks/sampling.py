"""Sample images from a diffusion model with DDIM or DPM-Solver++ and classifier-free guidance.

The guided prediction is (1 + w) eps(condition) - w eps(null), as in SalUn. With w = 0 there is no guidance. Other
software calls 1 + w the guidance scale.

Sources: DDIM, Song et al., arXiv:2010.02502. DPM-Solver++, Lu et al., arXiv:2211.01095. Guidance, Ho and Salimans,
arXiv:2207.12598.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ..errors import ExpungeError, MissingExtra, raise_all
from ..torch_utils.module_state import device_of, evaluating
from .diffusion import Diffusion


@dataclass(frozen=True, kw_only=True)
class Sampler:
    """Sample images of given conditions from a diffusion model.

    The starting noise depends only on the seed and the number of images, so every model starts from the same noise.

    Args:
        kind: The solver: "ddim", or "dpm" for DPM-Solver++.
        steps: Number of solver steps.
        guidance: The weight w of classifier-free guidance. 0 turns guidance off.
        eta: Noise that DDIM adds at each step: 0 adds none, 1 adds as much as DDPM.
        batch_size: Images to sample at once.

    Raises:
        ExpungeError: If `steps`, `batch_size` or `eta` is too small.

    Example:
        >>> sampler = Sampler(kind="dpm", steps=20)
        >>> images = sampler(model, task, torch.tensor([3, 3]), (3, 32, 32), seed=0)
    """

    kind: Literal["ddim", "dpm"] = "ddim"
    steps: int = 50
    guidance: float = 2.0
    eta: float = 0.0
    batch_size: int = 256

    def __post_init__(self) -> None:
        problems = [
            f"{name} of the sampler is {getattr(self, name)}; it must be at least {minimum}."
            for name, minimum in (("steps", 1), ("batch_size", 1), ("eta", 0))
            if getattr(self, name) < minimum
        ]
        raise_all(problems, ExpungeError)

    def __call__(
        self, model: nn.Module, task: Diffusion, y: Tensor, shape: tuple[int, ...], *, seed: int = 0
    ) -> Tensor:
        """Sample one image for each condition.

        Args:
            model: The diffusion model.
            task: Its noise levels and prediction type.
            y: Conditions (B,).
            shape: Shape of one image or latent, (C, H, W).
            seed: Seed of the starting noise.

        Returns:
            Images (B, C, H, W), float32 on the CPU. Tasks with `pixels=True` give images in [0, 1].

        Raises:
            ExpungeError: If the number of steps does not fit the task.
        """
        batches = list(self.batches(model, task, y, shape, seed=seed))
        return torch.cat(batches) if batches else torch.empty(0, *shape)

    def batches(
        self,
        model: nn.Module,
        task: Diffusion,
        y: Tensor,
        shape: tuple[int, ...],
        *,
        seed: int = 0,
        skip: int = 0,
    ) -> Iterator[Tensor]:
        """Yield the images of a call batch by batch, without the first `skip` of them.

        The images that follow `skip` are those of the whole call, unless `eta` adds noise at each step.
        """
        generator = torch.Generator().manual_seed(seed)
        noise = torch.randn((len(y), *shape), generator=generator)
        for start in range(skip, len(y), self.batch_size):
            # the caller does not work in these contexts
            with evaluating(model), torch.inference_mode():
                x = noise[start : start + self.batch_size].to(device_of(model))
                x = self.denoise(model, task, x, y[start : start + self.batch_size].to(x.device), generator)
                images = ((x / 2 + 0.5).clamp(0, 1) if task.pixels else x).cpu()
            # a tensor of inference mode cannot be trained on
            yield images.clone()

    def denoise(
        self,
        model: nn.Module,
        task: Diffusion,
        x: Tensor,
        y: Tensor,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Take all steps from pure noise `x` (B, C, H, W). The result is in the range of the model."""
        return self.part(model, task, x, y, self.steps, generator)[0]

    def part(
        self,
        model: nn.Module,
        task: Diffusion,
        x: Tensor,
        y: Tensor,
        stop: int,
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, int]:
        """Take only the first `stop` steps from pure noise.

        Args:
            model: The diffusion model.
            task: Its noise levels and prediction type.
            x: Pure noise (B, C, H, W).
            y: Conditions (B,).
            stop: Number of steps to take.
            generator: Source of the noise that DDIM adds if `eta` is above 0.

        Returns:
            The partly denoised images, and the time step of the next solver step (-1 after the last step).
        """
        scheduler = self.scheduler(task)
        noise = {"eta": self.eta, "generator": generator} if self.kind == "ddim" and self.eta else {}
        state: dict[str, Any] = {}
        for t in scheduler.timesteps[:stop]:
            x = scheduler.step(self.guided(model, task, x, t, y, state), t, x, **noise).prev_sample
        return x, int(scheduler.timesteps[stop]) if stop < len(scheduler.timesteps) else -1

    def scheduler(self, task: Diffusion) -> Any:
        """Return the diffusers scheduler with the noise levels of the task.

        Raises:
            ExpungeError: If the number of steps does not fit the task.
            MissingExtra: If diffusers is not installed.
        """
        try:
            from diffusers import DDIMScheduler, DPMSolverMultistepScheduler
        except ImportError as error:
            raise MissingExtra("sampling images from a diffusion model", "diffusion") from error
        # DDIM of diffusers always steps by the rounded-down width, so a wide remainder would leave noise in the image
        width, whole = task.steps / self.steps, task.steps // self.steps
        if not whole or (self.kind == "ddim" and width > 1.05 * whole):
            raise ExpungeError(
                f"{self.steps} sampler steps do not fit into the {task.steps} steps of the model; choose a divisor of "
                f"{task.steps}, or at most {task.steps // 20} steps."
            )
        # DPM-Solver takes the logarithm of the signal
        signal = task.signal.clamp_min(2**-24)
        before = torch.cat([torch.ones(1), signal[:-1]])
        common = {
            "num_train_timesteps": task.steps,
            "trained_betas": (1 - signal / before).tolist(),
            "prediction_type": task.prediction,
            "timestep_spacing": "trailing",
        }
        scheduler: Any = (
            DPMSolverMultistepScheduler(**common)
            if self.kind == "dpm"
            else DDIMScheduler(**common, clip_sample=task.pixels, set_alpha_to_one=True)
        )
        scheduler.set_timesteps(self.steps)
        return scheduler

    def guided(
        self, model: nn.Module, task: Diffusion, x: Tensor, t: Tensor, y: Tensor, state: dict[str, Any]
    ) -> Tensor:
        """Return the guided prediction (B, C, H, W) at one time step.

        Args:
            model: The diffusion model.
            task: Its prediction type and null condition.
            x: Noisy images (B, C, H, W).
            t: Time step of all images, a scalar.
            y: Conditions (B,).
            state: Values kept from step to step, empty at the first step.
        """
        times = t.to(x.device).expand(len(x))
        if self.guidance == 0:
            return task.predict(model, x, times, y)
        both = task.predict(
            model, x.repeat(2, 1, 1, 1), times.repeat(2), torch.cat([y, torch.full_like(y, task.null)])
        )
        conditional, unconditional = both.chunk(2)
        return conditional + self.guidance * (conditional - unconditional)


@dataclass(frozen=True, kw_only=True)
class SafeSampler(Sampler):
    """Sample with safe latent diffusion: steer away from a concept without changing a parameter.

    This is a filter, not unlearning. The sampler subtracts from the guided prediction
    gamma = mu * (eps(concept) - eps(null)) + momentum_scale * nu. Where eps(c) - eps(concept) < threshold,
    mu = clip(|scale * (eps(c) - eps(concept))|, max 1); elsewhere mu = 0. nu is a running mean of gamma. gamma
    counts after `warmup` steps. Defaults are the "strong" setting of the paper.

    The equations are in terms of noise, as published. For other prediction types the differences are converted to
    noise, and gamma is converted back.

    Args:
        concept: The condition to steer away from.
        scale: s_S, the strength.
        threshold: lambda, the difference below which the prediction counts as unsafe.
        warmup: delta, the number of first steps without steering.
        momentum_scale: s_m, the weight of the running mean.
        momentum: beta_m, the decay of the running mean.

    Source: Schramowski, Brack, Deiseroth, Kersting, CVPR 2023, arXiv:2211.05105, equations 3 to 8.
    """

    concept: int = 0
    scale: float = 2000.0
    threshold: float = 0.025
    warmup: int = 7
    momentum_scale: float = 0.5
    momentum: float = 0.7

    def guided(
        self, model: nn.Module, task: Diffusion, x: Tensor, t: Tensor, y: Tensor, state: dict[str, Any]
    ) -> Tensor:
        times = t.to(x.device).expand(len(x)).repeat(3)
        conditions = torch.cat([y, torch.full_like(y, task.null), torch.full_like(y, self.concept)])
        predictions = task.predict(model, x.repeat(3, 1, 1, 1), times, conditions)
        conditional, unconditional, unsafe = predictions.chunk(3)
        unit = task.noise_per(times[: len(x)], x.ndim)
        difference = unit * (conditional - unsafe)
        mu = torch.where(difference < self.threshold, (self.scale * difference).abs().clamp(max=1), 0.0)
        nu = state.get("nu", torch.zeros_like(x))
        gamma = mu * unit * (unsafe - unconditional) + self.momentum_scale * nu
        state["nu"] = self.momentum * nu + (1 - self.momentum) * gamma
        state["step"] = state.get("step", 0) + 1
        # where no signal is left, all predictions imply the same noise
        active = (unit != 0) & (state["step"] > self.warmup)
        push = torch.where(active, gamma / unit, 0.0)
        return unconditional + (1 + self.guidance) * (conditional - unconditional - push)
