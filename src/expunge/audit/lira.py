"""LiRA and U-LiRA: attack single samples with likelihood ratios of shadow models.

Own code, because it is the point of the strong audit. U-LiRA is LiRA's form for unlearning. Its "in" models are shadow
models that were trained with the forget set and then unlearned by the tested method. Its "out" models are shadow models
that were retrained without the forget set. An attack that cannot separate the two has an AUC of 0.5. All populations
are arrays of shape (models, samples).

Sources: LiRA, Carlini et al., IEEE S&P 2022, arXiv:2112.03570. U-LiRA, Kurmanji et al., NeurIPS 2023,
arXiv:2302.09880, and Hayes et al., arXiv:2403.01218.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .populations import Floats, Separation, leave_one_out

# With fewer shadow models, all samples share one variance, as the LiRA paper advises.
FEW = 64


def scaled_logit(logits: NDArray[np.floating], labels: NDArray[np.integer]) -> Floats:
    """Return phi = log p_y - log(sum over k != y of p_k) of each sample. KLOM calls phi the margin.

    The computation uses logits, so no exponential overflows or cancels.

    Args:
        logits: Logits (..., n, K).
        labels: True classes (n,).

    Returns:
        Scaled logits (..., n).

    Source: arXiv:2112.03570, equation 2.
    """
    z = np.asarray(logits, dtype=np.float64)
    at = np.broadcast_to(np.asarray(labels)[..., None], (*z.shape[:-1], 1))
    true_logit = np.take_along_axis(z, at, -1)[..., 0]
    others = z.copy()
    np.put_along_axis(others, at, -np.inf, -1)
    top = others.max(-1)
    return true_logit - top - np.log(np.exp(others - top[..., None]).sum(-1))


def likelihood_ratio(
    target: Floats, inside: Floats, outside: Floats, *, pooled: bool | None = None
) -> Floats:
    """Return log N(target; inside) - log N(target; outside) of each sample.

    The centre of each Gaussian is the median of the sample's values.

    Args:
        target: Values (..., n) of the target model.
        inside: Values (N, n) of models that were trained with the samples.
        outside: Values (N, n) of models that were trained without them.
        pooled: Use one deviation for all samples, instead of one for each sample. By default, pool below 64 models.

    Returns:
        Log ratios (..., n). They are above 0 if `target` looks like `inside`.
    """
    gaussians = [_gaussian(population, np.median(population, 0), pooled) for population in (inside, outside)]
    return _log_density(target, *gaussians[0]) - _log_density(target, *gaussians[1])


def _gaussian(population: Floats, centre: Floats, pooled: bool | None = None) -> tuple[Floats, Any]:
    """Return the centre (n,) and the deviation: (n,), or one number for all samples."""
    shared = len(population) < FEW if pooled is None else pooled
    squared = (population - centre) ** 2
    return centre, np.sqrt(squared.mean() if shared else squared.mean(0)) + 1e-8


def _log_density(target: Floats, centre: Floats, deviation: Any) -> Floats:
    return np.asarray(-(((target - centre) / deviation) ** 2) / 2 - np.log(deviation), dtype=np.float64)


def medians_without_each(population: Floats) -> Floats:
    """Return a matrix (N, n) whose row k is the median of all rows of `population` (N, n) except row k.

    One sort gives all N medians.
    """
    count = len(population)
    order = population.argsort(0)
    rank = np.empty_like(order)
    np.put_along_axis(rank, order, np.broadcast_to(np.arange(count)[:, None], order.shape), 0)
    ordered = np.take_along_axis(population, order, 0)
    # the value at position `at` among the other rows
    without = lambda at: np.where(rank <= at, ordered[at + 1], ordered[at])  # noqa: E731
    middle = (count - 1) // 2
    return without(middle) if count % 2 == 0 else (without(middle - 1) + without(middle)) / 2


def _ratios_without_each(
    unlearned: Floats, retrained: Floats
) -> Iterator[tuple[int, Callable[[Floats], Floats]]]:
    """Yield each model number with the likelihood ratio that all other models define."""
    populations = (unlearned, retrained)
    pairs = leave_one_out(*populations)
    centres = [medians_without_each(population) for population in populations]
    for k, others in pairs:
        inside, outside = (_gaussian(p[others], c[k]) for p, c in zip(populations, centres, strict=True))
        yield (
            k,
            lambda target, a=inside, b=outside: _log_density(target, *a) - _log_density(target, *b),  # type: ignore[misc]
        )


def u_lira(unlearned: Floats, retrained: Floats) -> Separation:
    """Run U-LiRA on a method. Each pair of shadow models is the target once.

    The target models are left out of both Gaussians. The expected AUC of equal populations is therefore 0.5.

    Args:
        unlearned: Scaled logits (N, n) of the unlearned shadows on the forget set.
        retrained: Scaled logits (N, n) of the retrained shadows on the forget set.

    Returns:
        How well the ratios separate unlearned from retrained models.

    Raises:
        ExpungeError: As `leave_one_out` does.

    Source: arXiv:2302.09880 and arXiv:2403.01218.
    """
    scores = [
        (ratio(unlearned[k]), ratio(retrained[k])) for k, ratio in _ratios_without_each(unlearned, retrained)
    ]
    return Separation.of(np.stack([s[0] for s in scores]), np.stack([s[1] for s in scores]))


def lira_on_model(model: Floats, unlearned: Floats, retrained: Floats) -> Separation:
    """Run U-LiRA on one model: its forget samples against those of the retrained shadows.

    Args:
        model: Scaled logits (n,) of the model on the forget set.
        unlearned: Scaled logits (N, n) of the unlearned shadows.
        retrained: Scaled logits (N, n) of the retrained shadows. Each one is scored by Gaussians that leave it out.

    Returns:
        How well the ratios separate the model from the retrained shadows.

    Raises:
        ExpungeError: As `leave_one_out` does.
    """
    negative = [ratio(retrained[k]) for k, ratio in _ratios_without_each(unlearned, retrained)]
    return Separation.of(likelihood_ratio(model, unlearned, retrained)[None], np.stack(negative))
