"""How far a population of unlearned models is from one of retrained models, sample by sample: (models,
samples) in.

The forgetting score: the NeurIPS 2023 unlearning challenge, Triantafillou et al., arXiv:2406.09073. KLOM:
Georgiev et al., "Attribute-to-Delete", arXiv:2410.23232. Both estimate distributions from as many values as
there are models, so both are above zero even between equal populations: read them beside `halves` of the
retrained one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import ExpungeError

Floats = NDArray[np.float64]

BINS, WIDTH = 13, 0.5  # of epsilon in the challenge's score


def epsilons(unlearned: Floats, retrained: Floats, delta: float = 0.0) -> Floats:
    """Each sample's epsilon (n,): how surely the best attack in hand tells its unlearned from its retrained
    values.

    Attacks are all single thresholds in both directions and all intervals. From an attack's error rates,
    max(log((1 - delta - FPR) / FNR), log((1 - delta - FNR) / FPR)); without any error infinite; with one
    rate at zero the attack is left out, since its epsilon cannot be estimated (the challenge's rule, stated
    from memory of it).
    """
    return np.array(
        [_epsilon(u, r, delta) for u, r in zip(np.asarray(unlearned).T, np.asarray(retrained).T, strict=True)]
    )


def _epsilon(u: Floats, r: Floats, delta: float) -> float:
    """Epsilon of one sample: an interval [i, j) of the ordered values is called 'retrained', or
    'unlearned'.
    """
    values = np.unique(np.concatenate([u, r]))
    edges = np.concatenate([[-np.inf], (values[1:] + values[:-1]) / 2, [np.inf]])
    below_u = np.searchsorted(np.sort(u), edges) / len(u)  # share of values below each edge
    below_r = np.searchsorted(np.sort(r), edges) / len(r)
    i, j = np.triu_indices(
        len(edges), 1
    )  # one-sided thresholds are the intervals that begin or end at infinity
    inside_u, inside_r = below_u[j] - below_u[i], below_r[j] - below_r[i]
    fpr = np.concatenate([1 - inside_r, inside_r])  # retrained values called unlearned
    fnr = np.concatenate([inside_u, 1 - inside_u])
    fpr, fnr = fpr.round(12), fnr.round(12)
    if ((fpr == 0) & (fnr == 0)).any():
        return np.inf
    usable = (fpr > 0) & (fnr > 0)
    if not usable.any():
        return 0.0
    fpr, fnr = fpr[usable], fnr[usable]
    with np.errstate(divide="ignore", invalid="ignore"):
        found = np.fmax(np.log((1 - delta - fpr) / fnr), np.log((1 - delta - fnr) / fpr))
    return max(0.0, float(np.nanmax(found)))


@dataclass(frozen=True)
class Challenge:
    """`forgetting` in [0, 1], higher is nearer to Retrain; `utility` the factor of accuracies; `final`
    their product.
    """

    forgetting: float
    utility: float
    final: float
    epsilon_median: float | None  # None where infinite
    separated: float  # share of samples whose values are told apart without any error


def challenge_score(
    unlearned: Floats,
    retrained: Floats,
    *,
    retain_accuracy: tuple[float, float] = (1, 1),
    test_accuracy: tuple[float, float] = (1, 1),
) -> Challenge:
    """The challenge's final score: mean of 2 / 2^bin(epsilon) over samples, times (RA / RA_retrain)(TA /
    TA_retrain).

    Bins are 0.5 wide, the first is 1, the last (13) takes everything above; accuracies are pairs
    (unlearned, retrained).
    """
    eps = epsilons(unlearned, retrained)
    number = np.minimum(np.floor(np.where(np.isfinite(eps), eps, 1e9) / WIDTH) + 1, BINS)
    forgetting = float((2 / 2**number).mean())
    utility = (retain_accuracy[0] / retain_accuracy[1]) * (test_accuracy[0] / test_accuracy[1])
    median = float(np.median(eps))
    return Challenge(
        forgetting,
        utility,
        forgetting * utility,
        median if np.isfinite(median) else None,
        float(np.isinf(eps).mean()),
    )


def klom(retrained: Floats, unlearned: Floats, bins: int | None = None, smoothing: float = 0.5) -> Floats:
    """KL(retrained || unlearned) of each sample's margins (n,), in nats, from histograms over their common
    range.

    The paper uses 20 bins for 100 models. Ours: the square root of the number of models below that (20 bins
    of 32 values are mostly noise), and `smoothing` counts in every bin, so that an empty one gives a large
    value, not an infinite one; the largest possible value grows with the number of models.
    """
    r, u = np.asarray(retrained, dtype=np.float64), np.asarray(unlearned, dtype=np.float64)
    if r.shape[1:] != u.shape[1:] or r.ndim != 2:
        raise ExpungeError(
            f"retrained {r.shape} and unlearned {u.shape} margins came; give (models, samples) of the same samples."
        )
    few = min(len(r), len(u))
    bins = bins or (20 if few >= 100 else max(4, round(few**0.5)))
    low = np.minimum(r.min(0), u.min(0))
    span = np.maximum(np.maximum(r.max(0), u.max(0)) - low, 1e-12)
    p, q = (_histogram(v, low, span, bins, smoothing) for v in (r, u))
    return (p * np.log(p / q)).sum(0)


def _histogram(values: Floats, low: Floats, span: Floats, bins: int, smoothing: float) -> Floats:
    """Smoothed shares (bins, n)."""
    place = np.minimum((bins * (values - low) / span).astype(int), bins - 1)
    counts = np.stack([(place == k).sum(0) for k in range(bins)]).astype(np.float64) + smoothing
    return counts / counts.sum(0)


def klom_summary(values: Floats) -> dict[str, float]:
    """Mean, median and 95th percentile over samples."""
    return {
        "mean": float(values.mean()),
        "median": float(np.median(values)),
        "p95": float(np.quantile(values, 0.95)),
    }
