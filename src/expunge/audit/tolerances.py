"""How far scores may differ before an audit refuses its reference, or calls a model over-forgotten."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

from ..errors import raise_all


@dataclass(frozen=True, kw_only=True)
class Tolerances:
    """Set how far scores may differ before an audit refuses its reference, or calls a model over-forgotten.

    Both defaults are more than twice what chance does. In the 39 pairs of original and retrained model in
    `benchmarks/results`, RA differs by at most 0.8 points and TA by at most 4.8. Where a set is so small that its sampling
    error at 95 % is larger than the tolerance, the sampling error is allowed.

    Args:
        reference: Largest difference between the RA, and between the TA, of the retrained model and the original, in
            percentage points. A reference beyond it is not comparable.
        forget: Largest fall of the accuracy on the forget set below the accuracy on unseen samples of the same classes, in
            percentage points, for the goal `untrain`. A model beyond it is over-forgotten.

    Example:
        >>> audit(model, split, task, retrained=retrained, original=original, tolerances=Tolerances(reference=15))
    """

    reference: float = 10.0
    forget: float = 20.0

    def check(self) -> None:
        """Raise `ExpungeError` with every problem."""
        raise_all(
            [
                f"the tolerance {name} is {value:g}; give a finite number of percentage points, 0 or more."
                for name, value in asdict(self).items()
                if not 0 <= value < math.inf
            ]
        )
