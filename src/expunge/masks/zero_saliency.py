"""Refuse or report masks that position chose instead of saliency."""

from __future__ import annotations

import math
import warnings

from ..errors import MaskError


def check_zeros(zeros: int, selected: int, remedy: str = "lower the density") -> dict[str, str]:
    """Check how many of the parameters that a mask ranked first have zero saliency, because zeros have no order.

    Args:
        zeros: Number of these parameters with zero saliency.
        selected: Number of these parameters.
        remedy: What to do, with the density that needs none of them if there is one (`density_without_zeros`).

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
        f"them; {remedy}.",
        RuntimeWarning,
        stacklevel=4,
    )
    return {"zero_saliency": str(zeros)}


def density_without_zeros(nonzero: int, total: int, *, inverted: bool = False) -> str:
    """Return the remedy for selected zeros: the density that needs none of them, as an instruction.

    Args:
        nonzero: Number of parameters with saliency.
        total: Number of all parameters.
        inverted: Whether the mask ranks the parameters that stay fixed.

    Example:
        >>> density_without_zeros(3, 6)
        'a density of at most 0.5 needs none of them'
        >>> density_without_zeros(3, 6, inverted=True)
        'a density of at least 0.5 needs none of them'
    """
    share = nonzero / total
    # rounded to the side that needs fewer
    least, most = math.ceil(1e4 * (1 - share)) / 1e4, math.floor(1e4 * share) / 1e4
    if inverted:
        return f"a density of at least {least:g} needs none of them"
    return (
        f"a density of at most {most:g} needs none of them" if most else "compute the mask from more samples"
    )
