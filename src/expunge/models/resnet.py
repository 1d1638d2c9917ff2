"""Residual networks for 32x32 images (He et al., CVPR 2016, arXiv:1512.03385)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from .layers import kaiming, normalize


class Block(nn.Module):
    """Two 3x3 convolutions around a shortcut; a 1x1 convolution with batch norm where the shapes differ."""

    def __init__(self, a: int, b: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(a, b, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(b)
        self.conv2 = nn.Conv2d(b, b, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(b)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or a != b:
            self.shortcut = nn.Sequential(nn.Conv2d(a, b, 1, stride, bias=False), nn.BatchNorm2d(b))

    def forward(self, x: Tensor) -> Tensor:
        # in place: batch norm's backward pass needs its input only, so a third of the activations need no memory
        h = F.relu(self.bn1(self.conv1(x)), inplace=True)
        return F.relu(self.bn2(self.conv2(h)).add_(self.shortcut(x)), inplace=True)


class ResNet(nn.Module):
    """3x3 stem without pooling, stages of basic blocks with halvings between them, global average pool, linear head."""

    def __init__(self, num_classes: int, channels: int, widths: tuple[int, ...], blocks: int):
        super().__init__()
        self.normalize = normalize(channels)
        self.conv1 = nn.Conv2d(channels, widths[0], 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        stages, at = [], widths[0]
        for number, width in enumerate(widths):
            rows = [
                Block(at if k == 0 else width, width, 2 if number and k == 0 else 1) for k in range(blocks)
            ]
            stages.append(nn.Sequential(*rows))
            at = width
        self.stages = nn.Sequential(*stages)
        self.fc = nn.Linear(at, num_classes)
        kaiming(self)

    def forward(self, x: Tensor) -> Tensor:
        h = self.stages(F.relu(self.bn1(self.conv1(self.normalize(x))), inplace=True))
        return self.fc(F.adaptive_avg_pool2d(h, 1).flatten(1))


def resnet20(num_classes: int = 10, shape: tuple[int, ...] = (3, 32, 32), width: int = 16) -> ResNet:
    """ResNet-20: stages of width, 2 width, 4 width, three blocks each; 272,474 parameters at width 16 and 10 classes."""
    return ResNet(num_classes, shape[0], (width, 2 * width, 4 * width), 3)


def resnet18(num_classes: int = 10, shape: tuple[int, ...] = (3, 32, 32)) -> ResNet:
    """ResNet-18 for 32x32 images as in SalUn's code: stages 64 to 512, two blocks each; 11,173,962 parameters at 10 classes."""
    return ResNet(num_classes, shape[0], (64, 128, 256, 512), 2)
