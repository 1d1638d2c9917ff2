"""The tiny problems on which `tools/released_numbers.py` runs released code and `test_released_code.py` ours.

Every number is a fraction of integers and every draw a formula. So the inputs depend on no random generator.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

CLASSES, FORGOTTEN, BATCH, TEMPERATURE = 4, 1, 8, 4.0
TIMES, ALPHA = 8, 0.02
# retained samples of methods with a fixed number of samples: more than 1,002, and two batches of at most 32
RETAINED = {"influence": 1010, "fisher_forgetting": 40}


def values(*shape: int, seed: int) -> Tensor:
    """Fractions of 1024 in [-0.5, 0.5), which float32 holds exactly."""
    count = int(torch.tensor(shape).prod())
    k = torch.arange(count, dtype=torch.int64) + 7919 * (seed + 1)
    return ((k * k * 31 + k * 17) % 1021).double().view(shape) / 1024 - 0.5


def labels(start: int, count: int) -> Tensor:
    """Labels at the places `start` to `start + count` of an endless list, in place of random ones."""
    k = torch.arange(start, start + count)
    return (k * k + 3 * k // 2) % CLASSES


def times(count: int) -> Tensor:
    """Time steps in place of random ones, which the code then mirrors."""
    return (torch.arange(count) * 3 + 1) % TIMES


def stream() -> Callable[[Tensor], Tensor]:
    """`torch.randn_like` whose calls continue one list of numbers, however they cut it."""
    numbers: Iterator[Tensor] = iter(values(4 * TIMES * 32, seed=77))
    return lambda x: torch.stack([next(numbers) for _ in range(x.numel())]).view(x.shape)


def set_to_values(model: nn.Module, seed: int = 0) -> nn.Module:
    """Set parameters and running statistics by formula, in double precision."""
    model.double()
    with torch.no_grad():
        for i, (name, tensor) in enumerate(model.state_dict().items()):
            if tensor.is_floating_point():
                tensor.copy_(values(*tensor.shape, seed=100 * seed + i) + ("var" in name))
    return model.eval()


class Classifier(nn.Module):
    """A convolution, batch norm and a linear layer: 280 parameters on images of 3x4x4."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.fc = nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.Linear(24, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        # one of the released codes casts its inputs to float32
        return self.fc(torch.tanh(self.norm(self.conv(x.double()))).flatten(1))


def classifier() -> nn.Module:
    return set_to_values(Classifier())


def training_samples(retained: int = 20) -> tuple[Tensor, Tensor]:
    """16 images of class 1, then `retained` ones of the other classes, in [0, 1)."""
    kept = torch.tensor([0, 2, 3])[torch.arange(retained) % 3]
    y = torch.cat([torch.full((16,), FORGOTTEN), kept])
    x = values(len(y), 3, 4, 4, seed=1) / 2 + 0.25
    x[torch.arange(len(y)), 0, y // 2, y % 2] += 0.25
    return x, y


class Denoiser(nn.Module):
    """A convolution of the noisy image, moved by time step and condition. It ignores further arguments."""

    def __init__(self) -> None:
        super().__init__()
        self.of_condition, self.of_time = nn.Embedding(CLASSES + 1, 2), nn.Parameter(torch.zeros(2))
        self.conv = nn.Conv2d(2, 2, 3, padding=1)

    def forward(self, x: Tensor, t: Tensor, y: Tensor, **_: object) -> Tensor:
        moved = self.of_condition(y) + t[:, None] / TIMES * self.of_time
        return self.conv(torch.tanh(x + moved[:, :, None, None]))


def denoiser() -> nn.Module:
    return set_to_values(Denoiser(), seed=3)


def replayed() -> tuple[Tensor, Tensor]:
    """Four images in [0, 1) of kept conditions."""
    return values(4, 2, 4, 4, seed=9) + 0.5, torch.tensor([0, 2, 3, 0])


def forgotten_images() -> Tensor:
    """Four images in [0, 1) of the forgotten condition."""
    return values(4, 2, 4, 4, seed=12) + 0.5


def extra_unit() -> Tensor:
    """Weights and bias of the class that boundary expand adds to the classifier."""
    return values(25, seed=11) / 4
