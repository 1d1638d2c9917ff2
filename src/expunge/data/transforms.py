"""Prepare a batch for a model: conversion to floats, augmentation and normalisation, on the device of the batch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from ..errors import ExpungeError, raise_all
from .batch import Augment, Batch, Inputs, map_inputs, to_device


def as_float(x: Inputs) -> Inputs:
    """Convert uint8 images (B, C, H, W) to float32 in [0, 1].

    All other tensors stay as they are. A byte mask or a table of bytes is not an image.
    """
    return map_inputs(x, lambda t: t.float().div_(255) if t.dtype == torch.uint8 and t.ndim > 3 else t)


@dataclass(frozen=True)
class CropFlip:
    """Random crop after zero padding, and random horizontal flip, for batches (B, C, H, W).

    Args:
        pad: Maximum shift in pixels, in each direction. Default 4.
        flip: Whether to mirror each image with probability 0.5. Default True.

    Example:
        >>> train = TensorData(x, y, augment=CropFlip(4))
    """

    pad: int = 4
    flip: bool = True

    def __call__(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Return augmented images of the same shape.

        Args:
            x: Images (B, C, H, W).
            generator: The CPU generator that draws shifts and flips.
        """
        n, _, h, w = x.shape
        shifts = torch.randint(0, 2 * self.pad + 1, (2, n), generator=generator)
        coins = torch.randint(0, 2, (n,), generator=generator, dtype=torch.bool)
        # One transfer to the device instead of three.
        top, left, flipped = to_device(torch.cat([shifts, coins[None]]), x.device)
        rows = top[:, None] + torch.arange(h, device=x.device)  # (B, H)
        columns = left[:, None] + torch.arange(w, device=x.device)  # (B, W)
        if self.flip:
            columns = torch.where(flipped[:, None] > 0, columns.flip(1), columns)
        padded = torch.nn.functional.pad(x, (self.pad,) * 4)
        # Advanced indices around a slice come first: (B, H, W, C), which is channels_last storage.
        return padded[
            torch.arange(n, device=x.device)[:, None, None], :, rows[:, :, None], columns[:, None, :]
        ].permute(0, 3, 1, 2)


@dataclass(frozen=True)
class Normalize:
    """Normalisation of images in [0, 1]: subtract `mean` and divide by `std`, per channel.

    Use it for models that expect normalised images and do not normalise inside.

    Args:
        mean: One number per channel.
        std: One number per channel, above 0.

    Raises:
        ExpungeError: The lengths differ, a number is not finite, or a `std` is not above 0.

    Example:
        >>> imagenet = Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
        >>> train = TensorData(x, y, normalize=imagenet)
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        for name in ("mean", "std"):
            object.__setattr__(self, name, tuple(float(v) for v in getattr(self, name)))
        problems = []
        if len(self.mean) != len(self.std):
            problems.append(
                f"mean has {len(self.mean)} numbers and std has {len(self.std)}; give both one number per channel."
            )
        if not all(math.isfinite(m) for m in self.mean) or not all(0 < s < math.inf for s in self.std):
            problems.append(
                f"mean is {self.mean} and std is {self.std}; give finite numbers, with each std above 0."
            )
        raise_all(problems, ExpungeError)

    def __call__(self, x: Tensor) -> Tensor:
        """Normalise `x` (B, C, ...) in place and return it."""
        mean, std = self._constants_for(x)
        return x.sub_(mean).div_(std)

    def undo(self, x: Tensor) -> Tensor:
        """Return the images in [0, 1] of normalised images `x` (B, C, ...)."""
        mean, std = self._constants_for(x)
        return x * std + mean

    def _constants_for(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and std, shaped to broadcast over `x`."""
        if x.ndim < 2 or x.shape[1] != len(self.mean) or not x.is_floating_point():
            raise ExpungeError(
                f"inputs are {x.dtype} of shape {tuple(x.shape[1:])} and mean has {len(self.mean)} numbers; give images as "
                "uint8 or floats, and one number per channel."
            )
        constants = _constants((self.mean, self.std), x.dtype, x.device)
        return tuple(constants.view(2, 1, -1, *[1] * (x.ndim - 2)))  # type: ignore[return-value]


@lru_cache(maxsize=16)
def _constants(values: tuple[tuple[float, ...], ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Make a tensor of constants once per device: each copy to a GPU waits for its queue."""
    # The cached tensor outlives the inference_mode block of the first caller.
    with torch.inference_mode(False):
        return torch.tensor(values, dtype=dtype, device=device)


def prepare(
    batch: Batch, augment: Augment | None, generator: torch.Generator | None, normalize: Normalize | None
) -> Batch:
    """Augment, convert and normalise a batch, so that a model can take it.

    Args:
        batch: The batch. Its `x` is replaced.
        augment: The augmentation of the data, or None.
        generator: The generator of the augmentation. Without one, nothing is augmented.
        normalize: The normalisation of the data, or None.

    Returns:
        The same batch object.

    Raises:
        ExpungeError: The samples have several named inputs and `augment` or `normalize` is set.
    """
    if isinstance(batch.x, dict):
        if augment is not None or normalize is not None:
            raise ExpungeError(named_inputs_problem(batch.x))
        batch.x = as_float(batch.x)
        return batch
    if augment is not None and generator is not None:
        # Bytes are a quarter of the floats. Models that take a view expect contiguous images.
        batch.x = augment(batch.x, generator).contiguous()
    before = batch.x
    x: Tensor = as_float(before)  # type: ignore[assignment]
    if normalize is not None:
        # Float inputs may be the memory of the data set itself, and normalising works in place.
        x = normalize(x.clone() if x is before else x)
    batch.x = x
    return batch


def named_inputs_problem(x: Mapping[str, Tensor]) -> str:
    """Say why named inputs are neither augmented nor normalised."""
    return (
        f"a sample has several named inputs ({', '.join(x)}), but augment and normalize change one tensor of images; "
        "leave them out, and prepare the inputs in your data or model."
    )
