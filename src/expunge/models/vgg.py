"""VGG-16 with batch norm (Simonyan & Zisserman, ICLR 2015, arXiv:1409.1556), in the form of SalUn's code."""

from __future__ import annotations

from torch import Tensor, nn

from .layers import kaiming, normalize

STAGES = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))


class VGG(nn.Module):
    """Classify images with VGG configuration D, without biases in the convolutions.

    A 2x2 adaptive pool and three linear layers follow the convolutions. It has 15,311,818 parameters with 10 classes.

    Args:
        num_classes: Number of classes.
        shape: Shape of one image, (C, H, W).
    """

    def __init__(self, num_classes: int = 10, shape: tuple[int, ...] = (3, 32, 32)):
        super().__init__()
        layers: list[nn.Module] = []
        inputs = shape[0]
        for width, count in STAGES:
            for _ in range(count):
                layers += [
                    nn.Conv2d(inputs, width, 3, padding=1, bias=False),
                    nn.BatchNorm2d(width),
                    nn.ReLU(inplace=True),
                ]
                inputs = width
            layers.append(nn.MaxPool2d(2, ceil_mode=True))
        self.normalize = normalize(shape[0])
        self.features = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(2), nn.Flatten())
        self.classifier = nn.Sequential(
            nn.Linear(2048, 256),
            nn.ReLU(),
            nn.Dropout(),
            nn.Linear(256, 256),
            nn.ReLU(),
            nn.Dropout(),
            nn.Linear(256, num_classes),
        )
        kaiming(self)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(self.normalize(x)))
