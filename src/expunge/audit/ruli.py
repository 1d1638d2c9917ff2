"""RULI: per-sample attacks on unlearning with kernel density estimates, for efficacy and for privacy.

Naderloui, Yan, Wang, Fu, Wang, Liu, Hong, "Rectifying Privacy and Efficacy Measurements in Machine Unlearning", USENIX
Security 2025, arXiv:2506.13009. Two likelihood ratios of each sample's scaled logit:

- efficacy: unlearned models against models that never saw the sample and did not unlearn anything;
- privacy: unlearned models against models that never saw the sample and unlearned other samples.

Published: the statistic, densities for each sample and state, the ratio k / (k + k'), AUC, accuracy at 0.5, and the
true-positive rates. In the paper, each sample is "in", "out" and "unlearned" for a third of the shadow models each. Ours:
the populations of the strong audit give the states, so no further model is trained. "Unlearned" are the shadow
originals after the method, and "out" the retrained shadows. For privacy, the method unlearns other samples of the
retain set from the retrained shadows. The paper looks for vulnerable samples with LiRA. Ours are the third whose
logits differ most between shadow originals and retrained shadows.

The released code keeps the bandwidth 1 at every scale, divides 0 by 0 far from all data, clips confidences at 1e-6, and
takes the true-positive rate at the nearest false-positive rate, which may lie above the wanted one. Here the bandwidth
is Scott's for each sample, the ratio is computed from logarithms, nothing is clipped, and the rate never lies above.
`as_released` gives the bandwidth and the clipping of the released code.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.special import expit, logsumexp

from .populations import Floats, Separation, leave_one_out

# The scaled logit of a confidence of 1 - 1e-6, at which the released code clips.
CLIP = float(np.log((1 - 1e-6) / 1e-6))
# Smallest bandwidth, as a share of the deviation of all samples.
NARROWEST = 1e-3


def log_density(at: Floats, population: Floats, bandwidth: float | Floats | None = None) -> Floats:
    """Return the logarithm of a Gaussian kernel density estimate of each sample.

    Args:
        at: Values (n,).
        population: Values (N, n) of N models on the same samples.
        bandwidth: Bandwidth: one number, or one for each sample (n,). Default: Scott's rule, deviation times N^(-1/5).

    Returns:
        Log densities (n,).
    """
    if bandwidth is None:
        floor = NARROWEST * max(float(population.std()), 1e-9)
        bandwidth = np.maximum(population.std(0, ddof=1) * len(population) ** -0.2, floor)
    z = (at - population) / bandwidth
    constant = np.log(len(population)) + np.log(bandwidth) + np.log(2 * np.pi) / 2
    return np.asarray(logsumexp(-(z**2) / 2, axis=0) - constant, dtype=np.float64)


def likelihood_share(at: Floats, inside: Floats, outside: Floats, bandwidth: float | None = None) -> Floats:
    """Return k / (k + k') of each sample, in [0, 1]: k from `inside`, k' from `outside`. Exchanging both gives 1 - share.

    Args:
        at: Values (n,) of the target model.
        inside: Values (N, n) of unlearned models.
        outside: Values (N, n) of models that never saw the samples.
        bandwidth: See `log_density`.
    """
    difference = log_density(at, inside, bandwidth) - log_density(at, outside, bandwidth)
    return np.asarray(expit(difference), dtype=np.float64)


def ruli_attack(
    unlearned: Floats, outside: Floats, vulnerability: Floats | None = None, *, as_released: bool = False
) -> dict[str, Any]:
    """Attack two populations. Each pair of models is the target once, and is left out of both densities.

    Args:
        unlearned: Scaled logits (N, n) of unlearned models on the forget set.
        outside: Scaled logits (N, n) of models that never saw the forget set.
        vulnerability: How vulnerable each sample is (n,), for `auc_vulnerable` and `auc_protected`.
        as_released: Use the bandwidth 1 and clip as the released code does.

    Returns:
        The figures of `Separation`, "accuracy" at a share of 0.5, and the AUC on the most and the least vulnerable third.

    Raises:
        ExpungeError: As `leave_one_out` does.
    """
    bandwidth = 1.0 if as_released else None
    if as_released:
        unlearned, outside = (np.clip(v, -CLIP, CLIP) for v in (unlearned, outside))
    scores = [
        [likelihood_share(p[k], unlearned[others], outside[others], bandwidth) for p in (unlearned, outside)]
        for k, others in leave_one_out(unlearned, outside)
    ]
    positive, negative = (np.stack([s[side] for s in scores]) for side in (0, 1))
    figures: dict[str, Any] = Separation.of(positive, negative).to_dict()
    figures["accuracy"] = float(((positive > 0.5).mean() + (negative <= 0.5).mean()) / 2)
    if vulnerability is not None and len(vulnerability) >= 3:
        order, third = np.argsort(vulnerability), len(vulnerability) // 3
        for name, at in (("vulnerable", order[-third:]), ("protected", order[:third])):
            figures[f"auc_{name}"] = Separation.of(positive[:, at], negative[:, at]).auc
    return figures


def vulnerability_of(original: Floats, retrained: Floats) -> Floats:
    """Return how far each sample's logits in models that saw it lie from those that did not, in deviations (n,)."""
    spread = np.sqrt((original.var(0) + retrained.var(0)) / 2) + 1e-9
    return np.asarray(np.abs(original.mean(0) - retrained.mean(0)) / spread, dtype=np.float64)
