"""An image file of any size as the tensor of one size that a model takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from PIL.Image import Image

MODES = {1: "L", 3: "RGB"}


@dataclass(frozen=True)
class Fit:
    """Resizes (bicubic) to `size` x `size`; with `crop` only the short side to `size`, and the middle `crop` x `crop` is kept,
    cut where torchvision's `Resize` and `CenterCrop` cut. `channels` is 3 (colour) or 1 (grey)."""

    size: int
    crop: int | None = None
    channels: int = 3

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of every image."""
        side = self.crop or self.size
        return self.channels, side, side

    def __str__(self) -> str:
        """As the options of a data source."""
        said = {
            "size": self.size,
            "crop": self.crop,
            "channels": self.channels if self.channels != 3 else None,
        }
        return "&".join(f"{k}={v}" for k, v in said.items() if v is not None)

    def __call__(self, image: Image) -> Tensor:
        """uint8 (C, H, W)."""
        from PIL.Image import Resampling

        width = height = self.size
        if self.crop is not None:
            short = min(image.size)
            width, height = (self.size if n == short else self.size * n // short for n in image.size)
        made = _of_8_bits(image).convert(MODES[self.channels]).resize((width, height), Resampling.BICUBIC)
        if self.crop is not None:
            left, top = round((width - self.crop) / 2), round((height - self.crop) / 2)
            made = made.crop((left, top, left + self.crop, top + self.crop))
        values = torch.from_numpy(np.array(made))
        return values[None] if self.channels == 1 else values.permute(2, 0, 1)


def _of_8_bits(image: Image) -> Image:
    """A grey image of 16 bits (modes `I;16`, `I`) scaled to 8, which Pillow's own conversion would clip at 255."""
    from PIL.Image import fromarray

    if not image.mode.startswith("I"):
        return image
    return fromarray((np.asarray(image) * (255 / 65535)).round().clip(0, 255).astype(np.uint8))
