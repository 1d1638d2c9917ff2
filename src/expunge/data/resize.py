"""`Resize`: make an image file of any size the tensor of one size that a model takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from .items import check_range, to_8_bits

if TYPE_CHECKING:
    from PIL.Image import Image

PILLOW_MODES = {1: "L", 3: "RGB"}


@dataclass(frozen=True)
class Resize:
    """Resize images, and optionally keep only the middle.

    Args:
        size: Side in pixels. Without `crop`, an image becomes `size` x `size`.
        crop: If given, only the short side is resized to `size`, and the middle `crop` x `crop` is kept. The cut is the same
            as with torchvision's `Resize` and `CenterCrop`.
        channels: 3 for colour, 1 for grey.
        exif: Whether to turn an image as its EXIF orientation says. torchvision's `ImageFolder` does not.
        interpolation: "bicubic" or "bilinear", both with antialiasing.

    Example:
        >>> resize = Resize(256, crop=224)
        >>> resize(Image.open("cat.jpg")).shape
        torch.Size([3, 224, 224])
    """

    size: int
    crop: int | None = None
    channels: int = 3
    exif: bool = False
    interpolation: str = "bicubic"

    @property
    def shape(self) -> tuple[int, int, int]:
        """The shape (C, H, W) of every resized image."""
        side = self.crop or self.size
        return self.channels, side, side

    def __str__(self) -> str:
        """The same as options of a data source: "size=256&crop=224"."""
        options = {
            "size": self.size,
            "crop": self.crop,
            "channels": self.channels if self.channels != 3 else None,
            "exif": 1 if self.exif else None,
            "interpolation": self.interpolation if self.interpolation != "bicubic" else None,
        }
        return "&".join(f"{k}={v}" for k, v in options.items() if v is not None)

    def __call__(self, image: Image) -> Tensor:
        """Return the resized image as uint8 (C, H, W). Raises `ValueError` as `check_range` does."""
        from PIL.Image import Resampling
        from PIL.ImageOps import exif_transpose

        check_range(image)
        if self.exif:
            image = exif_transpose(image)
        width = height = self.size
        if self.crop is not None:
            short = min(image.size)
            width, height = (self.size if n == short else self.size * n // short for n in image.size)
        image = to_8_bits(image).convert(PILLOW_MODES[self.channels])
        image = image.resize((width, height), Resampling[self.interpolation.upper()])
        if self.crop is not None:
            left, top = round((width - self.crop) / 2), round((height - self.crop) / 2)
            image = image.crop((left, top, left + self.crop, top + self.crop))
        pixels = torch.from_numpy(np.array(image))
        return pixels[None] if self.channels == 1 else pixels.permute(2, 0, 1)
