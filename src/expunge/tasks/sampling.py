"""Images from a diffusion model: DDIM or DPM-Solver by the schedulers of diffusers, with classifier-free guidance.

Sources: DDIM, Song et al., arXiv:2010.02502; DPM-Solver++, Lu et al., arXiv:2211.01095; guidance, Ho and Salimans,
arXiv:2207.12598, in SalUn's convention: (1 + w) eps(c) - w eps(null), so w = 0 is no guidance and w = 2 is what other
software calls a guidance scale of 3.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ..errors import ExpungeError, MissingExtra, raise_all
from ..torch_utils.module_state import device_of, evaluating
from .diffusion import Diffusion


@dataclass(frozen=True, kw_only=True)
class Sampler:
    """How images are drawn. The same seed and conditions give the same starting noise for every model."""

    kind: Literal["ddim", "dpm"] = "ddim"
    steps: int = 50
    guidance: float = 2.0  # w
    eta: float = 0.0  # noise added on the way by DDIM: 0 none, 1 as much as DDPM
    batch_size: int = 256

    def __post_init__(self) -> None:
        found = [
            f"{name} of the sampler is {getattr(self, name)}; it must be at least {low}."
            for name, low in (("steps", 1), ("batch_size", 1), ("eta", 0))
            if getattr(self, name) < low
        ]
        raise_all(found, ExpungeError)

    def __call__(
        self, model: nn.Module, task: Diffusion, y: Tensor, shape: tuple[int, ...], *, seed: int = 0
    ) -> Tensor:
        """Images of the conditions `y` (B,): (B, *shape), float32 on the CPU; in [0, 1] for tasks of pixels."""
        draw = torch.Generator().manual_seed(seed)
        noise = torch.randn((len(y), *shape), generator=draw)
        done = []
        with evaluating(model), torch.inference_mode():
            for at in range(0, len(y), self.batch_size):
                x = noise[at : at + self.batch_size].to(device_of(model))
                x = self.denoise(model, task, x, y[at : at + self.batch_size].to(x.device), draw)
                done.append((x / 2 + 0.5).clamp(0, 1).cpu() if task.pixels else x.cpu())
        return torch.cat(done) if done else torch.empty(0, *shape)

    def denoise(
        self,
        model: nn.Module,
        task: Diffusion,
        x: Tensor,
        y: Tensor,
        draw: torch.Generator | None = None,
    ) -> Tensor:
        """`x` (B, C, H, W), pure noise, after all of the sampler's steps, in the model's range."""
        return self.part(model, task, x, y, self.steps, draw)[0]

    def part(
        self,
        model: nn.Module,
        task: Diffusion,
        x: Tensor,
        y: Tensor,
        stop: int,
        draw: torch.Generator | None = None,
    ) -> tuple[Tensor, int]:
        """`x` (B, C, H, W), pure noise, after the first `stop` steps, and the time step of the next (-1 after the last)."""
        scheduler = self.scheduler(task)
        noise = {"eta": self.eta, "generator": draw} if self.kind == "ddim" and self.eta else {}
        state: dict[str, Any] = {}
        for t in scheduler.timesteps[:stop]:
            x = scheduler.step(self.guided(model, task, x, t, y, state), t, x, **noise).prev_sample
        return x, int(scheduler.timesteps[stop]) if stop < len(scheduler.timesteps) else -1

    def scheduler(self, task: Diffusion) -> Any:
        """The diffusers scheduler with the task's noise levels."""
        try:
            from diffusers import DDIMScheduler, DPMSolverMultistepScheduler
        except ImportError as error:
            raise MissingExtra("drawing images from a diffusion model", "diffusion") from error
        # DDIM of diffusers takes steps of the whole number, whatever the distance to the next one is
        wide, whole = task.steps / self.steps, task.steps // self.steps
        if not whole or (self.kind == "ddim" and wide > 1.05 * whole):
            raise ExpungeError(
                f"{self.steps} sampler steps do not fit into the {task.steps} of the model; give a number that divides it, or one "
                f"of at most {task.steps // 20}."
            )
        signal = task.signal.clamp_min(2**-24)  # DPM-Solver takes its logarithm
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
        """The guided prediction (B, C, H, W) at one step `t` (a scalar) for all; `state` lives as long as the drawing."""
        times = t.to(x.device).expand(len(x))
        if self.guidance == 0:
            return task.predict(model, x, times, y)
        both = task.predict(
            model, x.repeat(2, 1, 1, 1), times.repeat(2), torch.cat([y, torch.full_like(y, task.null)])
        )
        asked, free = both.chunk(2)
        return asked + self.guidance * (asked - free)


@dataclass(frozen=True, kw_only=True)
class SafeSampler(Sampler):
    """Safe latent diffusion: a concept is pushed away while drawing, and no weight is changed. A filter, not unlearning.

    Schramowski, Brack, Deiseroth, Kersting, CVPR 2023, arXiv:2211.05105 (equations 3 to 8): from the guided prediction is
    taken gamma = mu * (eps(concept) - eps(null)) + momentum_scale * nu, where mu = clip(|phi|, max 1), phi = scale *
    (eps(c) - eps(concept)), wherever eps(c) - eps(concept) < threshold, else 0; nu is a running mean of gamma, which counts
    from `warmup` steps on. Defaults are the paper's "strong" setting. All in terms of the noise, as published: the differences
    of models that predict something else are turned into differences of implied noise, and gamma back.
    """

    concept: int = 0  # the condition to stay away from
    scale: float = 2000.0  # s_S
    threshold: float = 0.025  # lambda
    warmup: int = 7  # delta
    momentum_scale: float = 0.5  # s_m
    momentum: float = 0.7  # beta_m

    def guided(
        self, model: nn.Module, task: Diffusion, x: Tensor, t: Tensor, y: Tensor, state: dict[str, Any]
    ) -> Tensor:
        times = t.to(x.device).expand(len(x)).repeat(3)
        conditions = torch.cat([y, torch.full_like(y, task.null), torch.full_like(y, self.concept)])
        asked, free, unsafe = task.predict(model, x.repeat(3, 1, 1, 1), times, conditions).chunk(3)
        unit = task.noise_per(times[: len(x)], x.ndim)
        gap = unit * (asked - unsafe)
        mu = torch.where(gap < self.threshold, (self.scale * gap).abs().clamp(max=1), 0.0)
        nu = state.get("nu", torch.zeros_like(x))
        away = mu * unit * (unsafe - free) + self.momentum_scale * nu
        state["nu"] = self.momentum * nu + (1 - self.momentum) * away
        state["step"] = state.get("step", 0) + 1
        acts = (unit != 0) & (
            state["step"] > self.warmup
        )  # where no signal is left, all predictions imply the same noise
        push = torch.where(acts, away / unit, 0.0)
        return free + (1 + self.guidance) * (asked - free - push)
