"""Encode images as PNG in base64, as a record keeps them."""

from __future__ import annotations

import base64
import io

import torch
from torch import Tensor

from ..data.samples import Samples


def pictures(samples: Samples) -> list[str | None]:
    """Encode every image sample as a PNG in base64.

    Args:
        samples: Samples whose images are in [0, 1], or normalised by their data.

    Returns:
        One text for each sample. None for data that is not images with 1 or 3 channels.
    """
    x = next(iter(samples.batches(len(samples)))).x
    if not isinstance(x, Tensor) or x.ndim != 4 or x.shape[1] not in (1, 3):
        return [None] * len(samples)
    if samples.data.normalize is not None:
        x = samples.data.normalize.undo(x)
    return [png(image[None], 1) for image in x]


def png(images: Tensor, columns: int, gap: int = 1) -> str:
    """Put images into a grid and encode it as one PNG in base64.

    Args:
        images: Images (N, C, H, W) in [0, 1], with 1 or 3 channels.
        columns: Number of images in a row.
        gap: Pixels between images.

    Returns:
        The base64 text.
    """
    from PIL import Image

    n, c, h, w = images.shape
    rows = -(-n // columns)
    sheet = torch.full((c, rows * (h + gap) - gap, columns * (w + gap) - gap), 0.5)
    for k, image in enumerate(images):
        top, left = k // columns * (h + gap), k % columns * (w + gap)
        sheet[:, top : top + h, left : left + w] = image
    pixels = (sheet.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()
    file = io.BytesIO()
    Image.fromarray(pixels[:, :, 0] if c == 1 else pixels).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()
