"""KLOM: the KL divergence of margins between retrained and unlearned models.

KLOM estimates each distribution from as many values as there are models. It is therefore above zero even between equal
populations: read it beside KLOM between two `halves` of the retrained population.

Source: Georgiev et al., "Attribute-to-Delete", arXiv:2410.23232.
"""

from __future__ import annotations

import numpy as np

from ..errors import ExpungeError
from .populations import Floats


def klom(retrained: Floats, unlearned: Floats, bins: int | None = None, smoothing: float = 0.5) -> Floats:
    """Return KL(retrained || unlearned) of each sample's margins, from histograms over their common range.

    Args:
        retrained: Margins (models, samples) of the retrained models. `lira.scaled_logit` computes margins.
        unlearned: Margins (models, samples) of the unlearned models, on the same samples.
        bins: Number of bins. The paper uses 20 for 100 models. Our default below 100 models is the square root of
            the number of models, at least 4, because 20 bins of 32 values are mostly noise.
        smoothing: Count that is added to every bin, our choice. An empty bin then gives a large value, not an infinite
            one. The largest possible value grows with the number of models.

    Returns:
        Divergences (samples,), in nats.

    Raises:
        ExpungeError: If the two arrays do not hold the same samples.

    Source: arXiv:2410.23232.
    """
    r, u = np.asarray(retrained, dtype=np.float64), np.asarray(unlearned, dtype=np.float64)
    if r.shape[1:] != u.shape[1:] or r.ndim != 2:
        raise ExpungeError(
            f"the retrained margins have shape {r.shape} and the unlearned ones {u.shape}; "
            "give arrays (models, samples) of the same samples."
        )
    models = min(len(r), len(u))
    bins = bins or (20 if models >= 100 else max(4, round(models**0.5)))
    low = np.minimum(r.min(0), u.min(0))
    span = np.maximum(np.maximum(r.max(0), u.max(0)) - low, 1e-12)
    p, q = (_histogram(margins, low, span, bins, smoothing) for margins in (r, u))
    return (p * np.log(p / q)).sum(0)


def _histogram(values: Floats, low: Floats, span: Floats, bins: int, smoothing: float) -> Floats:
    """Return the smoothed share (bins, n) of values in each bin."""
    bin_of = np.minimum((bins * (values - low) / span).astype(int), bins - 1)
    counts = np.stack([(bin_of == k).sum(0) for k in range(bins)]).astype(np.float64) + smoothing
    return counts / counts.sum(0)


def klom_summary(values: Floats) -> dict[str, float]:
    """Return the mean, median and 95th percentile ("p95") over samples."""
    return {
        "mean": float(values.mean()),
        "median": float(np.median(values)),
        "p95": float(np.quantile(values, 0.95)),
    }
