"""Refuse or report masks that position chose instead of saliency."""

from __future__ import annotations

import warnings

from ..errors import MaskError


def check_zeros(zeros: int, selected: int) -> dict[str, str]:
    """Check how many of the parameters that a mask ranked first have zero saliency, because zeros have no order.

    Args:
        zeros: Number of these parameters with zero saliency.
        selected: Number of these parameters.

    Returns:
        An entry "zero_saliency" for the metadata of the mask. Empty in the ordinary case, without zeros.

    Raises:
        MaskError: All of them are zero.
    """
    if not zeros:
        return {}
    if zeros == selected:
        raise MaskError(
            "every saliency is zero, so only the position of the parameters would choose the mask; a gradient is zero where the "
            "model is saturated (the loss rounds to 0), where half precision rounds it to 0, or where the loss does not depend on "
            "the trainable parameters. Compute the mask in float32 from samples with a loss above 0, or choose mask 'random' or "
            "density 1."
        )
    warnings.warn(
        f"{zeros:,} of the {selected:,} parameters that saliency ranks first have a saliency of zero, and their position chose "
        "them; lower the density so that fewer are needed.",
        RuntimeWarning,
        stacklevel=4,
    )
    return {"zero_saliency": str(zeros)}
