"""How much noise a diffusion model sees at each time step, and how its prediction relates to that noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

BetaSchedule = Literal["linear", "scaled_linear", "cosine"]
Prediction = Literal["epsilon", "v_prediction", "sample"]


@dataclass(frozen=True, eq=False)
class Noisy:
    """Hold noisy samples.

    Args:
        x: Noisy images (B, C, H, W).
        t: Their time steps (B,).
        target: The prediction (B, C, H, W) that a perfect model makes.
    """

    x: Tensor
    t: Tensor
    target: Tensor


def signal_levels(steps: int, schedule: BetaSchedule, start: float, end: float) -> Tensor:
    """Return the share of the signal's variance left at each step (T,): the cumulative product of 1 - beta, float32.

    Args:
        steps: Number of noise levels T.
        schedule: Course of the noise variance. "cosine" uses neither `start` nor `end`.
        start: Noise variance of the first step.
        end: Noise variance of the last step.

    Source of the cosine schedule: Nichol and Dhariwal, arXiv:2102.09672, equation 17.
    """
    f64 = torch.float64
    if schedule == "cosine":
        progress = torch.arange(steps + 1, dtype=f64) / steps
        angle = (progress + 0.008) / 1.008 * torch.pi / 2
        beta = (1 - angle[1:].cos() ** 2 / angle[:-1].cos() ** 2).clamp(max=0.999)
    elif schedule == "linear":
        beta = torch.linspace(start, end, steps, dtype=f64)
    else:
        beta = torch.linspace(start**0.5, end**0.5, steps, dtype=f64) ** 2
    return (1 - beta).cumprod(0).float()


def mirrored_times(
    steps: int, count: int, device: torch.device, generator: torch.Generator | None = None
) -> Tensor:
    """Return random time steps (count,).

    Half of them mirror the others (t and T - 1 - t), which reduces the variance of a batch's loss.
    """
    half = torch.randint(0, steps, (count // 2 + 1,), device=device, generator=generator)
    return torch.cat([half, steps - 1 - half])[:count]


def noise_factors(prediction: Prediction, a: Tensor) -> Tensor:
    """Return how much the implied noise changes per unit of the prediction.

    The implied noise is linear in the prediction:
    eps = v sqrt(a) + x_t sqrt(1 - a) = (x_t - x_0 sqrt(a)) / sqrt(1 - a).

    Args:
        prediction: What the model predicts: the noise, v, or the image.
        a: Share of the signal's variance left, of any shape.
    """
    factors = {"epsilon": torch.ones_like(a), "v_prediction": a.sqrt(), "sample": -(a / (1 - a)).sqrt()}
    return factors[prediction]
