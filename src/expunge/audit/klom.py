"""KLOM: the KL divergence of margins between retrained and unlearned models.

KLOM estimates each distribution from as many values as there are models. It is therefore above zero even between equal
populations: read it beside KLOM between two `halves` of the retrained population.

`klom` is our form. `bench_klom` is the form of data-unlearning-bench and EasyDUB, for figures beside published ones.

Sources: Georgiev et al., "Attribute-to-Delete", arXiv:2410.23232; "Easy Data Unlearning Bench", arXiv:2602.16400.
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np

from ..errors import ExpungeError, raise_all
from .populations import Floats

Form = Literal["repaired", "data-unlearning-bench", "easydub"]
FORMS: tuple[Form, ...] = get_args(Form)

# Constants of the bench: bins, the range of margins, and the share that an empty bin gets.
BENCH_BINS = 20
RANGE = (-100.0, 100.0)
FLOOR = 1e-5


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
    r, u = _same_samples(retrained, unlearned)
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


def bench_klom(retrained: Floats, unlearned: Floats, form: Form = "repaired") -> Floats:
    """Return KLOM in the form of data-unlearning-bench: 20 bins over the common range of both, margins cut at ±100.

    A bin that only the first distribution of the divergence has counts as 1e-5 in the second. Every value is therefore at
    most log(1e5) = 11.5. The number of bins does not depend on the number of models: below 100 models most of the value
    is noise, so read it beside its value between two `halves` of the retrained population.

    Args:
        retrained: Margins (models, samples) of the retrained models ("oracles").
        unlearned: Margins (models, samples) of the unlearned models, on the same samples.
        form: "repaired" is KL(unlearned || retrained) with every margin counted. "data-unlearning-bench" is what the
            released runner computes: its arguments are exchanged, so it is KL(retrained || unlearned), and the largest
            margin of a sample lies outside all bins. "easydub" is the released EasyDUB code: KL(unlearned || retrained),
            also without the largest margin, and the raised shares are not divided by their sum.

    Returns:
        Divergences (samples,), in nats. NaN or 0 in the released forms if no margin of a population lies in a bin.

    Raises:
        ExpungeError: If the two arrays do not hold the same samples, a margin is NaN, or there is no such form.

    Sources: arXiv:2410.23232 and arXiv:2602.16400, with their released code.
    """
    r, u = _same_samples(retrained, unlearned)
    if form not in FORMS:
        raise ExpungeError(f"there is no form '{form}' of KLOM; the forms are {', '.join(FORMS)}.")
    r, u = np.clip(r, *RANGE), np.clip(u, *RANGE)
    low, high = np.minimum(r.min(0), u.min(0)), np.maximum(r.max(0), u.max(0))
    edges = np.linspace(low, np.where(high > low, high, low + 1), BENCH_BINS + 1)
    keep_last = form == "repaired"
    retrained_shares, unlearned_shares = (_bench_shares(v, edges, keep_last) for v in (r, u))
    p, q = unlearned_shares, retrained_shares
    if form == "data-unlearning-bench":
        p, q = q, p
    q = np.where(p > 0, np.maximum(q, FLOOR), q)
    if form != "easydub":
        with np.errstate(invalid="ignore"):
            q = q / q.sum(0)
    terms = np.where(p > 0, p * np.log(np.where(p > 0, p, 1) / np.where(p > 0, q, 1)), p)
    return np.asarray(terms.sum(0), dtype=np.float64)


def _bench_shares(values: Floats, edges: Floats, keep_last: bool) -> Floats:
    """Return the share (bins, n) of values in each bin. A value on the last edge is in no bin unless it is kept."""
    bin_of = np.full(values.shape, -1)
    for edge in edges:
        bin_of += values >= edge
    if keep_last:
        bin_of = np.minimum(bin_of, BENCH_BINS - 1)
    counts = np.stack([(bin_of == k).sum(0) for k in range(BENCH_BINS)]).astype(np.float64)
    with np.errstate(invalid="ignore"):
        shares = counts / counts.sum(0)
    return shares if keep_last else np.nan_to_num(shares)


def _same_samples(retrained: Floats, unlearned: Floats) -> tuple[Floats, Floats]:
    """Return both arrays in float64, or raise `ExpungeError` with every problem."""
    r, u = np.asarray(retrained, dtype=np.float64), np.asarray(unlearned, dtype=np.float64)
    if r.shape[1:] != u.shape[1:] or r.ndim != 2 or not len(r) or not len(u):
        raise ExpungeError(
            f"the retrained margins have shape {r.shape} and the unlearned ones {u.shape}; "
            "give arrays (models, samples) of the same samples."
        )
    raise_all(
        [
            f"{np.isnan(values).sum()} of the {name} margins are NaN; leave out the models that diverged."
            for name, values in (("retrained", r), ("unlearned", u))
            if np.isnan(values).any()
        ],
        ExpungeError,
    )
    return r, u


def klom_summary(values: Floats) -> dict[str, float]:
    """Return the mean, median and 95th percentile ("p95") over samples."""
    return {
        "mean": float(values.mean()),
        "median": float(np.median(values)),
        "p95": float(np.quantile(values, 0.95)),
    }
