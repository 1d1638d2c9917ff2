"""Small networks for small images. On a CPU they fit digits and Fashion-MNIST in seconds to minutes."""

from __future__ import annotations

from torch import Tensor, nn

from .layers import normalize


class CNN(nn.Module):
    """Classify images with three convolutions, batch norm and two max pools.

    The convolutions have `width`, 2 `width` and 2 `width` channels. A global average pool and a linear head follow.

    Args:
        num_classes: Number of classes.
        shape: Shape of one image, (C, H, W).
        width: Channels of the first convolution.
    """

    def __init__(self, num_classes: int = 10, shape: tuple[int, ...] = (1, 28, 28), width: int = 32):
        super().__init__()
        channels = shape[0]

        def block(inputs: int, outputs: int) -> list[nn.Module]:
            return [
                nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
                nn.BatchNorm2d(outputs),
                nn.ReLU(inplace=True),
            ]

        self.normalize = normalize(channels)
        self.features = nn.Sequential(
            *block(channels, width),
            *block(width, 2 * width),
            nn.MaxPool2d(2),
            *block(2 * width, 2 * width),
            nn.MaxPool2d(2),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        )
        self.head = nn.Linear(2 * width, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(self.normalize(x)))


class MLP(nn.Module):
    """Classify flattened inputs with two hidden layers and ReLU.

    Args:
        num_classes: Number of classes.
        shape: Shape of one input.
        width: Width of the hidden layers.
    """

    def __init__(self, num_classes: int = 10, shape: tuple[int, ...] = (1, 8, 8), width: int = 128):
        super().__init__()
        size = 1
        for n in shape:
            size *= n
        self.features = nn.Sequential(
            nn.Flatten(), nn.Linear(size, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU()
        )
        self.head = nn.Linear(width, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x))
