"""Residual networks for 32x32 images (He et al., CVPR 2016, arXiv:1512.03385)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from .layers import kaiming, normalize


class Block(nn.Module):
    """Add two 3x3 convolutions to a shortcut. The shortcut is a 1x1 convolution if the shapes differ."""

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x: Tensor) -> Tensor:
        # in place: the backward pass of batch norm needs only its input, so this saves a third of the activation memory
        h = F.relu(self.bn1(self.conv1(x)), inplace=True)
        return F.relu(self.bn2(self.conv2(h)).add_(self.shortcut(x)), inplace=True)


class ResNet(nn.Module):
    """Classify images with a 3x3 stem, stages of residual blocks and a linear head.

    The side of the image halves between stages.

    Args:
        num_classes: Number of classes.
        channels: Channels of the images.
        widths: Channels of each stage.
        blocks: Residual blocks per stage.
    """

    # names of the released code of SalUn and of torchvision, which count the stages from 1
    published_names = (
        *((rf"\blayer{n}\.", f"stages.{n - 1}.") for n in range(1, 5)),
        (r"\bdownsample\.", "shortcut."),
        (r"^linear\.", "fc."),
    )
    published_buffers = ("normalize.mean", "normalize.std")

    def __init__(self, num_classes: int, channels: int, widths: tuple[int, ...], blocks: int):
        super().__init__()
        self.normalize = normalize(channels)
        self.conv1 = nn.Conv2d(channels, widths[0], 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        stages, inputs = [], widths[0]
        for number, width in enumerate(widths):
            stage = [
                Block(inputs if k == 0 else width, width, 2 if number and k == 0 else 1)
                for k in range(blocks)
            ]
            stages.append(nn.Sequential(*stage))
            inputs = width
        self.stages = nn.Sequential(*stages)
        self.fc = nn.Linear(inputs, num_classes)
        kaiming(self)

    def forward(self, x: Tensor) -> Tensor:
        h = self.stages(F.relu(self.bn1(self.conv1(self.normalize(x))), inplace=True))
        return self.fc(F.adaptive_avg_pool2d(h, 1).flatten(1))


def resnet20(num_classes: int = 10, shape: tuple[int, ...] = (3, 32, 32), width: int = 16) -> ResNet:
    """Make a ResNet-20: three stages of three blocks with `width`, 2 `width` and 4 `width` channels.

    It has 272,474 parameters at width 16 with 10 classes.
    """
    return ResNet(num_classes, shape[0], (width, 2 * width, 4 * width), 3)


def resnet18(num_classes: int = 10, shape: tuple[int, ...] = (3, 32, 32)) -> ResNet:
    """Make a ResNet-18 for 32x32 images as in SalUn's code: four stages of two blocks with 64 to 512 channels.

    It has 11,173,962 parameters with 10 classes.
    """
    return ResNet(num_classes, shape[0], (64, 128, 256, 512), 2)
