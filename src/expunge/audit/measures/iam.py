"""IAM: how completely each forget sample was unlearned, between "never seen" (1) and "fitted as before" (0).

Wang, Li, Xiang, Cao, Wang, "Towards Lifecycle Unlearning Commitment Management", USENIX Security 2025,
arXiv:2506.06112. A sample's signal is the negative logarithm of its loss. Between its signal in models that never saw
it and its signal in the original, a grid of interpolants stands for degrees of fit. Each has a distribution, and the
signal of the unlearned model is read against all of them.

Published in paper and code: the interpolation, the moment-fitted Gumbel distribution, 100 grid points with the last one
dropped, and the weighted mean. One model that never saw the samples is enough; the released code recommends 10, the
paper used 128. Ours: the retrained model is the one that never saw them, and with one such model the deviation is that
of the interpolants over the samples. The strong audit uses all retrained shadows. A sample that the model knows less
than models that never saw it also counts as complete, so `below_unseen` counts these.
"""

from __future__ import annotations

from itertools import pairwise
from typing import ClassVar, Literal

import numpy as np
from scipy.special import ndtr

from ...errors import ExpungeError, raise_all
from ...tasks.task import Task
from ..evaluation import Evaluation
from ..lira import scaled_logit
from ..measure import Measure
from ..populations import Floats

# Number of grid points, and the constant of Euler and Mascheroni: the mean of a standard Gumbel distribution.
POINTS = 100
EULER = 0.5772156649015329
LEAST = 1e-12


class IAM(Measure):
    """Compute the completeness of unlearning from the original and the retrained model."""

    name = "IAM"
    glossary = "Completeness of unlearning of single samples: 1 as if never seen, 0 as well fitted as before."
    unit = ""
    needs = ("logits",)
    reference = True
    parts: ClassVar = {
        "completeness": "Mean completeness of unlearning over forget samples: 1 as if never seen, 0 as well fitted as before.",
        "below_unseen": "Share of the forget samples that the model fits worse than Retrain does, which never saw them.",
    }

    def compute(
        self,
        unlearned: Evaluation,
        original: Evaluation | None,
        retrained: Evaluation | None,
        task: Task,
    ) -> dict[str, float | None] | None:
        """Return mean completeness and the share below Retrain, both from 0 to 1. None without an original."""
        if original is None:
            return None
        assert retrained is not None
        own, fit, out = (
            fit_signal(scaled_logit(e.forget.logits.numpy(), e.forget.labels.numpy()))
            for e in (unlearned, original, retrained)
        )
        values = completeness(own, fit, out[None])
        return {"completeness": float(values.mean()), "below_unseen": float((own < out).mean())}


def fit_signal(margins: Floats) -> Floats:
    """Return -log(cross-entropy) of samples from their scaled logits (`lira.scaled_logit`). It grows with the fit."""
    loss = np.logaddexp(0.0, -np.asarray(margins, dtype=np.float64))
    return -np.log(np.maximum(loss, np.finfo(np.float64).tiny))


def completeness(
    own: Floats,
    fit: Floats,
    out: Floats,
    *,
    sigma: float | Floats | None = None,
    distribution: Literal["gumbel", "normal"] = "gumbel",
) -> Floats:
    """Return the completeness of unlearning of each sample.

    Args:
        own: Signals (n,) of the unlearned model.
        fit: Signals (n,) of the original.
        out: Signals (K, n) of K models that never saw the samples.
        sigma: Deviation of the distributions: one number, or one for each sample (n,). By default it is that of the K
            interpolants of each sample, and for K = 1 that of all samples' interpolants.
        distribution: Shape of the distributions.

    Returns:
        Values (n,) in [0, 1]: 1 minus the mean of the distribution functions at `own`, with weights that grow with the
        degree of fit.

    Raises:
        ExpungeError: If the shapes do not fit.

    Source: arXiv:2506.06112.
    """
    own, fit, out = (np.asarray(v, dtype=np.float64) for v in (own, fit, out))
    problems = []
    if own.ndim != 1 or fit.shape != own.shape:
        problems.append(f"own has shape {own.shape} and fit {fit.shape}; give both as (samples,).")
    if out.ndim != 2 or out.shape[1:] != own.shape or not len(out):
        problems.append(f"out has shape {out.shape}; give (models, samples) of the {own.size} samples.")
    raise_all(problems, ExpungeError)
    grid = np.linspace(0, 1, POINTS)
    total = np.zeros_like(own)
    centre, spread = out.mean(0), out.std(0)
    for at, weight in pairwise(grid):
        mean = centre + at * (fit - centre)
        # the interpolants of one sample share `fit`, so their deviation is this share of that of `out`
        deviation = sigma if sigma is not None else mean.std() if len(out) == 1 else (1 - at) * spread
        total += weight * _below(own, mean, np.maximum(deviation, LEAST), distribution)
    return np.asarray(1 - total / grid[1:].sum(), dtype=np.float64)


def _below(own: Floats, mean: Floats, deviation: Floats, distribution: str) -> Floats:
    """Return the distribution function of a Gumbel or normal distribution with these moments."""
    if distribution == "normal":
        return np.asarray(ndtr((own - mean) / deviation), dtype=np.float64)
    scale = np.sqrt(6) * deviation / np.pi
    # far below the location, the inner exponential overflows to infinity, and the outer one is 0
    with np.errstate(over="ignore"):
        return np.asarray(np.exp(-np.exp(-(own - mean + EULER * scale) / scale)), dtype=np.float64)
