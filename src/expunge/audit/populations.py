"""Compare two populations of models by what an attack achieves on them. Arrays have shape (models, samples)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import ExpungeError, raise_all
from .roc import auc, tpr_at_fpr

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Separation:
    """Describe how well an attack separates two sets. All rates are in [0, 1].

    Args:
        auc: Area under the ROC curve. 0.5 means that the attack does not separate the sets.
        tpr_at_01: True-positive rate at a false-positive rate of 0.1 %. Meaningful only with well over 1000 negatives.
        tpr_at_1: True-positive rate at a false-positive rate of 1 %.
        spread: Sample standard deviation of the AUC over target models. None for one target model.
        positives: Number of positive scores.
        negatives: Number of negative scores.
    """

    auc: float
    tpr_at_01: float
    tpr_at_1: float
    spread: float | None
    positives: int
    negatives: int

    @classmethod
    def of(cls, positive: Floats, negative: Floats) -> Separation:
        """Measure the separation of scores (targets, samples) that are high for positives."""
        aucs = []
        if positive.shape == negative.shape:
            aucs = [auc(p, n) for p, n in zip(positive, negative, strict=True)]
        spread = float(np.std(aucs, ddof=1)) if len(aucs) > 1 else None
        all_positive, all_negative = positive.ravel(), negative.ravel()
        return cls(
            auc(all_positive, all_negative),
            tpr_at_fpr(all_positive, all_negative, 0.001),
            tpr_at_fpr(all_positive, all_negative, 0.01),
            spread,
            positive.size,
            negative.size,
        )

    def to_dict(self) -> dict[str, float | int | None]:
        """Return the fields as a dictionary for a record."""
        return asdict(self)


def halves(population: Floats) -> tuple[Floats, Floats]:
    """Split a population into two equal parts that differ only by chance.

    A measure between the two parts shows its own noise.
    """
    middle = len(population) // 2
    return population[:middle], population[middle : 2 * middle]


def leave_one_out(unlearned: Floats, retrained: Floats) -> Iterator[tuple[int, NDArray[np.bool_]]]:
    """Check two populations and yield (model number, mask of all other models) for each model.

    Args:
        unlearned: Values (models, samples) of the unlearned shadow models.
        retrained: Values (models, samples) of the retrained shadow models.

    Raises:
        ExpungeError: With every problem: unequal shapes, fewer than 3 models, values that are not finite.
    """
    problems = []
    if unlearned.shape != retrained.shape or unlearned.ndim != 2:
        problems.append(
            f"the unlearned shadows have shape {unlearned.shape} and the retrained ones {retrained.shape}; "
            "give two arrays of the same shape (models, samples)."
        )
    if len(unlearned) < 3:
        problems.append(
            f"there are {len(unlearned)} shadow models; the Gaussian of a model needs two others: give at least 3."
        )
    if not (np.isfinite(unlearned).all() and np.isfinite(retrained).all()):
        problems.append(
            "scores of shadow models are NaN or infinite, so a shadow model diverged; lower the recipe's lr."
        )
    raise_all(problems, ExpungeError)
    count = len(unlearned)
    return ((k, np.arange(count) != k) for k in range(count))
