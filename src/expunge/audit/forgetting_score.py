"""The forgetting score of the NeurIPS 2023 unlearning challenge.

The score compares the values of unlearned and of retrained models sample by sample. It estimates each distribution from
as many values as there are models. Its epsilon is therefore above zero even between equal populations: read it beside
the score between two `halves` of the retrained population.

Source: Triantafillou et al., arXiv:2406.09073.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .populations import Floats

# Number and width of the bins of epsilon.
BINS, WIDTH = 13, 0.5


@dataclass(frozen=True)
class ForgettingScore:
    """Hold the challenge's score and its parts.

    Args:
        forgetting: Mean over samples of 2 / 2^bin(epsilon), in [0, 1]. Higher is closer to Retrain.
        utility: Product of the retain and test accuracies, each divided by Retrain's.
        final: `forgetting` times `utility`.
        epsilon_median: Median of epsilon over samples. None if it is infinite.
        separated: Share of samples whose values an attack separates without an error.
    """

    forgetting: float
    utility: float
    final: float
    epsilon_median: float | None
    separated: float


def forgetting_score(
    unlearned: Floats,
    retrained: Floats,
    *,
    retain_accuracy: tuple[float, float] = (1, 1),
    test_accuracy: tuple[float, float] = (1, 1),
) -> ForgettingScore:
    """Compute the challenge's score: mean of 2 / 2^bin(epsilon), times (RA / RA_retrain) (TA / TA_retrain).

    The bins are 0.5 wide. The first bin is number 1. The last, number 13, takes everything above.

    Args:
        unlearned: Values (models, samples) of the unlearned models.
        retrained: Values (models, samples) of the retrained models.
        retain_accuracy: Retain accuracy of the unlearned and of the retrained models.
        test_accuracy: Test accuracy of the unlearned and of the retrained models.

    Returns:
        The score and its parts.

    Source: arXiv:2406.09073. The number and width of the bins are from memory of the challenge's description.
    """
    epsilon = epsilons(unlearned, retrained)
    number = np.minimum(np.floor(np.where(np.isfinite(epsilon), epsilon, 1e9) / WIDTH) + 1, BINS)
    forgetting = float((2 / 2**number).mean())
    utility = (retain_accuracy[0] / retain_accuracy[1]) * (test_accuracy[0] / test_accuracy[1])
    median = float(np.median(epsilon))
    return ForgettingScore(
        forgetting,
        utility,
        forgetting * utility,
        median if np.isfinite(median) else None,
        float(np.isinf(epsilon).mean()),
    )


def epsilons(unlearned: Floats, retrained: Floats, delta: float = 0.0) -> Floats:
    """Return epsilon of each sample: how surely the best attack separates its unlearned from its retrained values.

    The attacks are all single thresholds in both directions, and all intervals. The epsilon of an attack is
    max(log((1 - delta - FPR) / FNR), log((1 - delta - FNR) / FPR)). It is infinite if the attack makes no error. An
    attack with exactly one error rate of zero is skipped, because its epsilon cannot be estimated.

    Args:
        unlearned: Values (models, samples) of the unlearned models.
        retrained: Values (models, samples) of the retrained models.
        delta: The delta of (epsilon, delta) unlearning.

    Returns:
        Epsilons (samples,), 0 or above.

    Source: arXiv:2406.09073. The rule for skipped attacks is from memory of the challenge's description.
    """
    columns = zip(np.asarray(unlearned).T, np.asarray(retrained).T, strict=True)
    return np.array([_epsilon(u, r, delta) for u, r in columns])


def _epsilon(u: Floats, r: Floats, delta: float) -> float:
    """Return epsilon of one sample. Each attack calls an interval [i, j) of values 'retrained' or 'unlearned'."""
    values = np.unique(np.concatenate([u, r]))
    edges = np.concatenate([[-np.inf], (values[1:] + values[:-1]) / 2, [np.inf]])
    # the share of values below each edge
    below_u = np.searchsorted(np.sort(u), edges) / len(u)
    below_r = np.searchsorted(np.sort(r), edges) / len(r)
    # one-sided thresholds are the intervals that begin or end at infinity
    i, j = np.triu_indices(len(edges), 1)
    inside_u, inside_r = below_u[j] - below_u[i], below_r[j] - below_r[i]
    # false positive: a retrained value that is called unlearned
    fpr = np.concatenate([1 - inside_r, inside_r]).round(12)
    fnr = np.concatenate([inside_u, 1 - inside_u]).round(12)
    if ((fpr == 0) & (fnr == 0)).any():
        return np.inf
    usable = (fpr > 0) & (fnr > 0)
    if not usable.any():
        return 0.0
    fpr, fnr = fpr[usable], fnr[usable]
    with np.errstate(divide="ignore", invalid="ignore"):
        of_attacks = np.fmax(np.log((1 - delta - fpr) / fnr), np.log((1 - delta - fnr) / fpr))
    return max(0.0, float(np.nanmax(of_attacks)))
