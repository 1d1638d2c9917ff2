"""Per-example likelihood-ratio attacks: arrays in, numbers out. Populations have shape (models, samples).

LiRA: Carlini et al., IEEE S&P 2022, arXiv:2112.03570. U-LiRA, its form against unlearning: Kurmanji et al.,
NeurIPS 2023, arXiv:2302.09880, and Hayes et al., arXiv:2403.01218: "in" are shadow models trained with the
forget set and then unlearned by the method under test, "out" are shadow models retrained without it; an
attack that cannot tell them apart has an AUC of 0.5. RMIA: Zarifzadeh, Liu and Shokri, ICML 2024,
arXiv:2312.03262, offline form: only retrained models are references.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ExpungeError, raise_all
from .mia import auc, tpr_at_fpr

Floats = NDArray[np.float64]

FEW = 64  # with fewer shadow models a variance is taken over all samples together, as the paper does
LOW_FPRS = (0.001, 0.01)


def scaled_logit(logits: NDArray[np.floating], labels: NDArray[np.integer]) -> Floats:
    """phi = log p_y - log(sum over k != y of p_k), (..., n), from logits (..., n, K): no exponential
    overflows or cancels. Equation 2 of LiRA; KLOM calls it the margin."""
    z = np.asarray(logits, dtype=np.float64)
    at = np.broadcast_to(np.asarray(labels)[..., None], (*z.shape[:-1], 1))
    own = np.take_along_axis(z, at, -1)[..., 0]
    others = z.copy()
    np.put_along_axis(others, at, -np.inf, -1)
    top = others.max(-1)
    return own - top - np.log(np.exp(others - top[..., None]).sum(-1))


@dataclass(frozen=True)
class Told:
    """How well an attack tells two sets: `auc`, and the true-positive rate at false-positive rates of 0.1 %
    and 1 %.

    All in [0, 1]. `spread` is the standard deviation of the AUC over target models (None for one). A rate
    of 0.1 % means something only where `negatives` is well above 1000.
    """

    auc: float
    tpr_at_01: float
    tpr_at_1: float
    spread: float | None
    positives: int
    negatives: int

    @classmethod
    def of(cls, positive: Floats, negative: Floats) -> Told:
        """From scores (targets, samples) that are high for positives."""
        each = (
            [auc(p, n) for p, n in zip(positive, negative, strict=True)]
            if positive.shape == negative.shape
            else []
        )
        spread = float(np.std(each, ddof=1)) if len(each) > 1 else None
        low = [tpr_at_fpr(positive.ravel(), negative.ravel(), f) for f in LOW_FPRS]
        return cls(
            auc(positive.ravel(), negative.ravel()), low[0], low[1], spread, positive.size, negative.size
        )

    def to_dict(self) -> dict[str, float | int | None]:
        """For a record."""
        return asdict(self)


def likelihood_ratio(
    target: Floats, inside: Floats, outside: Floats, *, pooled: bool | None = None
) -> Floats:
    """log N(target; in) - log N(target; out) for each sample (..., n): above 0 where `target` looks like
    `inside` (N, n).

    The centre of each Gaussian is the median, its deviation that of the sample's own values, or, `pooled`
    (the default below 64 models), of all samples' deviations from their medians together.
    """
    gaussians = [_gaussian(population, np.median(population, 0), pooled) for population in (inside, outside)]
    return _log_density(target, *gaussians[0]) - _log_density(target, *gaussians[1])


def _gaussian(population: Floats, centre: Floats, pooled: bool | None = None) -> tuple[Floats, Any]:
    """Centre (n,) and deviation, (n,) or one for all samples."""
    few = len(population) < FEW if pooled is None else pooled
    away = (population - centre) ** 2
    return centre, np.sqrt(away.mean() if few else away.mean(0)) + 1e-8


def _log_density(target: Floats, centre: Floats, deviation: Any) -> Floats:
    return np.asarray(-(((target - centre) / deviation) ** 2) / 2 - np.log(deviation), dtype=np.float64)


def medians_without_each(population: Floats) -> Floats:
    """Row k: the median (n,) of all rows of `population` (N, n) but the k-th, from one sort instead of N medians."""
    count = len(population)
    order = population.argsort(0)
    rank = np.empty_like(order)
    np.put_along_axis(rank, order, np.broadcast_to(np.arange(count)[:, None], order.shape), 0)
    sorted_ = np.take_along_axis(population, order, 0)
    others = lambda at: np.where(rank <= at, sorted_[at + 1], sorted_[at])  # noqa: E731  # their at-th smallest
    middle = (count - 1) // 2
    return others(middle) if count % 2 == 0 else (others(middle - 1) + others(middle)) / 2


def _without_each(unlearned: Floats, retrained: Floats) -> Iterator[tuple[int, Callable[[Floats], Floats]]]:
    """For each pair of shadows in turn its number and the likelihood ratio that the others give."""
    both = (unlearned, retrained)
    pairs = _paired(*both)
    centres = [medians_without_each(population) for population in both]
    for k, rest in pairs:
        inside, outside = (_gaussian(p[rest], c[k]) for p, c in zip(both, centres, strict=True))
        yield (
            k,
            lambda target, a=inside, b=outside: _log_density(target, *a) - _log_density(target, *b),  # type: ignore[misc]
        )


def u_lira(unlearned: Floats, retrained: Floats) -> Told:
    """U-LiRA on a method: every pair of shadows in turn is the target, the others make the Gaussians.

    Taking a model out of both populations keeps the game fair: for equal populations the expected AUC is 0.5.
    Raises `ExpungeError` for fewer than three models, or for values that are not finite.
    """
    scores = [(ratio(unlearned[k]), ratio(retrained[k])) for k, ratio in _without_each(unlearned, retrained)]
    return Told.of(np.stack([s[0] for s in scores]), np.stack([s[1] for s in scores]))


def lira_on_model(model: Floats, unlearned: Floats, retrained: Floats) -> Told:
    """U-LiRA on one model: its forget samples (n,) against those of the retrained shadows, each judged
    without itself.
    """
    negative = [ratio(retrained[k]) for k, ratio in _without_each(unlearned, retrained)]
    return Told.of(likelihood_ratio(model, unlearned, retrained)[None], np.stack(negative))


def relative_ratio(
    target: Floats,
    population: Floats,
    references: Floats,
    around: Floats,
    *,
    gamma: float = 1.0,
    a: float = 0.3,
) -> Floats:
    """RMIA score (n,) in [0, 1]: the share of samples z that x beats by the factor `gamma` in p(x | model)
    / p(x).

    `target` (n,) and `population` (m,) are the model's confidences on x and on samples z nobody trained on,
    `references` (N, n) and `around` (N, m) those of the reference models, of which none was trained on x or
    z. p(x) is estimated as ((1 + a) mean + 1 - a) / 2, the paper's equation 10 with its a = 0.3. The
    paper's gamma is 2; ours is 1, since models that are sure of nearly all samples leave no ratio above 2
    (on digits every score was 0 or 1, and the AUC between retrained models 0.40 instead of 0.51).
    """
    share = lambda own, other: own / np.maximum(((1 + a) * other.mean(0) + 1 - a) / 2, 1e-300)  # noqa: E731
    bar = np.sort(share(population, around) * gamma)
    return np.searchsorted(bar, share(target, references), side="right") / len(bar)


def rmia(unlearned: tuple[Floats, Floats], retrained: tuple[Floats, Floats], *, gamma: float = 1.0) -> Told:
    """RMIA on a method. Each argument: confidences on the forget set (N, n) and on test samples (N, m) of a
    population.
    """
    scores = []
    for k, rest in _paired(unlearned[0], retrained[0]):
        scores.append(
            [
                relative_ratio(which[0][k], which[1][k], retrained[0][rest], retrained[1][rest], gamma=gamma)
                for which in (unlearned, retrained)
            ]
        )
    return Told.of(np.stack([s[0] for s in scores]), np.stack([s[1] for s in scores]))


def halves(population: Floats) -> tuple[Floats, Floats]:
    """A population in two equal parts that differ in nothing: what an attack says of them is its own noise."""
    middle = len(population) // 2
    return population[:middle], population[middle : 2 * middle]


def _paired(unlearned: Floats, retrained: Floats) -> Iterator[tuple[int, NDArray[np.bool_]]]:
    problems = []
    if unlearned.shape != retrained.shape or unlearned.ndim != 2:
        problems.append(
            f"unlearned {unlearned.shape} and retrained {retrained.shape} shadows came; give (models, samples), equal."
        )
    if len(unlearned) < 3:
        problems.append(f"{len(unlearned)} shadow models came; a Gaussian needs the others: give at least 3.")
    if not (np.isfinite(unlearned).all() and np.isfinite(retrained).all()):
        problems.append("scores of shadow models are NaN or infinite; a shadow diverged, lower the rate.")
    raise_all(problems, ExpungeError)
    n = len(unlearned)
    return ((k, np.arange(n) != k) for k in range(n))
