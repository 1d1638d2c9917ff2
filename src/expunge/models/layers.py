"""What the built-in models share: channel normalisation inside the model, and their weight initialisation."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Normalize(nn.Module):
    """(x - mean) / std for each channel of images (B, C, H, W) in [0, 1], so that data stays in [0, 1] outside the model."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]):
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(std)[:, None, None], persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean) / self.std


def normalize(channels: int) -> Normalize:
    """The CIFAR-10 constants for 3 channels (SalUn's code), mean and standard deviation one half for others."""
    if channels == 3:
        return Normalize((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616))
    return Normalize((0.5,) * channels, (0.5,) * channels)


def kaiming(model: nn.Module) -> None:
    """Kaiming-normal (fan-out) convolutions, batch norm 1 and 0; linear layers keep torch's default."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
