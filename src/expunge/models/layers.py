"""Shared parts of the built-in models: normalisation of the channels, and initialisation of the parameters."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Normalize(nn.Module):
    """Normalise the channels of images (B, C, H, W) inside the model, so that data sets stay in [0, 1].

    Args:
        mean: Mean of each channel.
        std: Standard deviation of each channel.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]):
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(std)[:, None, None], persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean) / self.std


def normalize(channels: int) -> Normalize:
    """Return the CIFAR-10 constants of SalUn's code for 3 channels, and mean and deviation 0.5 for other numbers."""
    if channels == 3:
        return Normalize((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616))
    return Normalize((0.5,) * channels, (0.5,) * channels)


def kaiming(model: nn.Module) -> None:
    """Initialise convolutions with Kaiming normal (fan-out). Other layers keep torch's default."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
