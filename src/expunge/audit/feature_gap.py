"""Measure the feature gap: how far a model is from Retrain below the head, in points, when classes are forgotten.

One edited bias gives a model the UA, RA, TA and MIA of Retrain (`bias_shift`), and leaves all features as they were.
Tables of class-wise forgetting therefore also show the feature gap, and sort by the worse of both gaps. The choice of
the three parts and their equal weights are ours. `features.py` has the full list of feature measures.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean
from typing import Any, Protocol

from ..data.split import Split
from ..tasks.predictions import PredictedSets, Predictions
from .feature_measures import cka, fewer_retained, probe_accuracy
from .head_bias import bias_correction

Figures = dict[str, float]


class Evaluated(PredictedSets, Protocol):
    """What the feature gap needs of an `Evaluation`."""

    split: Split
    seed: int

    @property
    def has_logits(self) -> bool:
        """Whether the predictions are those of a classifier."""


@dataclass(frozen=True)
class _Sets:
    forget: Any
    retain: Any
    test: Any
    test_forgotten: Any


def feature_figures(evaluation: Evaluated, original: Evaluated | None = None) -> Figures:
    """Return the figures of a model that its feature gap compares.

    Args:
        evaluation: The evaluation of the model.
        original: The evaluation of the original. Without it, there is no CKA.

    Returns:
        "probe_forgotten", "corrected_forgotten" and "corrected_retained" in percent, and "cka_original" from 0 to 1.
        Figures that need unseen samples of the forgotten classes are left out without any. Empty if no class is
        forgotten, if the model has no linear head, or if its outputs are not finite.
    """
    split = evaluation.split
    if not split.forget_classes or not evaluation.has_logits or not _finite(evaluation):
        return {}
    figures: Figures = {}
    if len(evaluation.test_forgotten.labels):
        fewer = _with_fewer_retained(evaluation)
        figures["probe_forgotten"] = probe_accuracy(fewer)["forgotten"]
        corrected = bias_correction(fewer, list(split.forget_classes))
        figures |= {f"corrected_{name}": corrected[name] for name in ("forgotten", "retained")}
    if original is not None and original.has_logits and _finite(original):
        figures["cka_original"] = cka(evaluation.forget.features, original.forget.features)
    return {name: value for name, value in figures.items() if value == value}


def feature_gap(own: Mapping[str, float], reference: Mapping[str, float]) -> float | None:
    """Return the feature gap of a model in points: the mean of up to three distances to Retrain's figures.

    The parts are the accuracy of a linear probe on unseen samples of the forgotten classes, the mean of the accuracies
    on forgotten and on retained classes after the best shift of the head's bias, and 100 times the CKA with the
    original. The shift trades one accuracy for the other, differently for each seed, so only their mean is compared.

    Args:
        own: The figures of the model, as `feature_figures` returns them.
        reference: The figures of the retrained model.

    Returns:
        The gap, 0 to 100. None if the two have no figure in common.

    Example:
        >>> feature_gap({"probe_forgotten": 100.0, "cka_original": 1.0}, {"probe_forgotten": 94.0, "cka_original": 0.7})
        18.0
    """
    parts = []
    if "probe_forgotten" in own and "probe_forgotten" in reference:
        parts.append(own["probe_forgotten"] - reference["probe_forgotten"])
    names = ("corrected_forgotten", "corrected_retained")
    if all(name in figures for name in names for figures in (own, reference)):
        parts.append(fmean(own[n] for n in names) - fmean(reference[n] for n in names))
    if "cka_original" in own and "cka_original" in reference:
        parts.append(100 * (own["cka_original"] - reference["cka_original"]))
    return fmean(abs(part) for part in parts) if parts else None


def _with_fewer_retained(evaluation: Evaluated) -> _Sets:
    whole = evaluation.retain
    at = fewer_retained(len(whole.labels), evaluation.seed)
    retain = Predictions(whole.logits[at], whole.labels[at], whole.features[at])
    return _Sets(evaluation.forget, retain, evaluation.test, evaluation.test_forgotten)


def _finite(evaluation: Evaluated) -> bool:
    """Return whether the model has features, and all logits and features are finite."""
    sets = (evaluation.forget, evaluation.retain, evaluation.test, evaluation.test_forgotten)
    return all(p.features is not None and p.finite and bool(p.features.isfinite().all()) for p in sets)
