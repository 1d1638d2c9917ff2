"""Images as pixels in [0, 1], before the normalisation of their data, for methods that change inputs."""

from __future__ import annotations

from torch import Tensor

from ..data.batch import Batch
from ..data.samples import Data
from ..errors import ExpungeError

# how far undoing the normalisation may round pixels out of [0, 1]
ROUNDING = 1e-4


def pixels_of(data: Data, batch: Batch, method: str, instead: str) -> Tensor:
    """Return the images of a batch in [0, 1], before normalisation.

    Args:
        data: The data that the batch is from.
        batch: The batch.
        method: Name of the method, for the error.
        instead: Names of methods for other inputs, for the error.

    Raises:
        ExpungeError: The inputs are not one float tensor, or not in [0, 1].
    """
    if not (isinstance(batch.x, Tensor) and batch.x.is_floating_point()):
        raise ExpungeError(
            f"{method} changes the pixels of images and needs inputs as one float tensor; for other inputs use {instead}."
        )
    normalize = data.normalize
    pixels = batch.x if normalize is None else normalize.undo(batch.x)
    slack = 0.0 if normalize is None else ROUNDING
    if pixels.min() < -slack or pixels.max() > 1 + slack:
        raise ExpungeError(
            f"{method} got inputs from {float(pixels.min()):.3g} to {float(pixels.max()):.3g}; it needs images in "
            "[0, 1] or uint8. Normalise them with `normalize` of the data, or inside the model."
        )
    return pixels


def normalized(data: Data, pixels: Tensor) -> Tensor:
    """Return what a model takes for pixels in [0, 1]: the same, or a normalised copy."""
    return pixels if data.normalize is None else data.normalize(pixels.clone())
