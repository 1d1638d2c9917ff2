"""A dense convolutional network that trains in few epochs, after airbench94 (Jordan 2024, arXiv:2404.00498). Own code."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .layers import normalize

# Standard deviations of 2x2 patches of normalised CIFAR-10 images: brightness, red - blue, green - magenta (rows); mean,
# horizontal, vertical and diagonal difference (columns). Values below 0.1 are raised to 0.1, so that noise stays small.
DEVIATIONS = ((3.16, 0.58, 0.63, 0.23), (0.86, 0.1, 0.1, 0.1), (0.42, 0.1, 0.1, 0.1))


class Group(nn.Module):
    """Apply two 3x3 convolutions, each with batch norm and GELU. A max pool halves the side after the first."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        # a side of 1 stays 1, so that small images have an output
        h = F.max_pool2d(self.conv1(x), 2, ceil_mode=min(x.shape[2:]) < 2)
        h = F.gelu(self.bn1(h))
        return F.gelu(self.bn2(self.conv2(h)))


class Airbench(nn.Module):
    """Classify images with a 2x2 convolution, three groups of two 3x3 convolutions, a max pool and a linear head.

    The groups have `width`, 4 `width` and 4 `width` channels, and the head has a bias. All parameters are trained. The
    filters of the 2x2 convolution begin as a fixed whitening of patches, and each 3x3 convolution begins with the
    identity on its first channels. It has 498,114 parameters for RGB images and 10 classes.

    Args:
        num_classes: Number of classes.
        shape: Shape of one image, (C, H, W).
        width: Channels of the first group.

    The published network has width 64. It whitens by statistics of the training data, freezes the filters of the 2x2
    convolution and the scales of batch norm, and has no bias in the head.
    """

    def __init__(self, num_classes: int = 10, shape: tuple[int, ...] = (3, 32, 32), width: int = 32):
        super().__init__()
        channels = shape[0]
        self.normalize = normalize(channels)
        self.patches = nn.Conv2d(channels, 8 * channels, 2)
        self.groups = nn.Sequential(
            Group(8 * channels, width), Group(width, 4 * width), Group(4 * width, 4 * width)
        )
        self.head = nn.Linear(4 * width, num_classes)
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Initialise the filters of the convolutions. The layers have initialised all parameters before."""
        whitening = patch_filters(self.patches.in_channels)
        self.patches.weight.copy_(torch.cat([whitening, -whitening]))
        nn.init.zeros_(self.patches.bias)  # type: ignore[arg-type]
        for conv in (m for m in self.groups.modules() if isinstance(m, nn.Conv2d)):
            nn.init.dirac_(conv.weight[: conv.in_channels])

    def forward(self, x: Tensor) -> Tensor:
        h = self.groups(F.gelu(self.patches(self.normalize(x))))
        return self.head(F.adaptive_max_pool2d(h, 1).flatten(1))


def patch_filters(channels: int) -> Tensor:
    """Return 4 C filters (4 C, C, 2, 2) whose responses to natural images are almost uncorrelated, with deviation about 1.

    Args:
        channels: Number of channels C. Only for 3 channels do the filters mix colours.
    """
    signs = torch.tensor([[1.0, 1, 1, 1], [1, -1, 1, -1], [1, 1, -1, -1], [1, -1, -1, 1]])
    patterns = signs.view(4, 2, 2) / 2
    if channels == 3:
        colours = F.normalize(torch.tensor([[1.0, 1, 1], [1, 0, -1], [1, -2, 1]]))
        deviations = torch.tensor(DEVIATIONS)
    else:
        colours = torch.eye(channels)
        deviations = torch.tensor(DEVIATIONS[:1]).expand(channels, 4) / 3**0.5
    filters = torch.einsum("kc,lij->klcij", colours, patterns) / deviations[:, :, None, None, None]
    return filters.flatten(0, 1)
