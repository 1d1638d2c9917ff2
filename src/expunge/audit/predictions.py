"""Audit model populations from their predictions alone, without models, data or training."""

from __future__ import annotations

from typing import Any

from .klom import FORMS, Form, bench_klom, klom_summary
from .population_figures import (
    Values,
    iam_figures,
    klom_figures,
    lira_figures,
    rmia_figures,
    ruli_figures,
)
from .populations import halves


def audit_predictions(margins: Values) -> dict[str, dict[str, Any]]:
    """Compare unlearned with retrained models by their margins on forget, retain and test set.

    Args:
        margins: {"retrained", "original", "unlearned": {"forget", "retain", "test": margins (models, samples)}}, as
            `easydub.read_easydub` returns them.

    Returns:
        {attack: {figure: value}}, as a record keeps attacks. KLOM is there in our form, between halves of the populations,
        and in the forms of the bench, over all models. The nulls are of two halves of the retrained models.
    """
    attacks: dict[str, dict[str, Any]] = {"KLOM": klom_figures(margins)}
    attacks |= {f"KLOM, {form}": _of_bench(margins, form) for form in FORMS}
    attacks["U-LiRA"] = lira_figures(margins)
    attacks["RMIA"] = rmia_figures(margins)
    attacks["IAM"] = iam_figures(margins)
    attacks |= {f"RULI {part}": figures for part, figures in ruli_figures(margins).items()}
    count = len(margins["retrained"]["forget"])
    return {name: {**figures, "shadows": count} for name, figures in attacks.items()}


def _of_bench(margins: Values, form: Form) -> dict[str, Any]:
    """Return mean, median and 95th percentile of each set in one form of the bench."""
    figures: dict[str, Any] = {}
    for name, retrained in margins["retrained"].items():
        pairs = {
            "": (retrained, margins["unlearned"][name]),
            "_original": (retrained, margins["original"][name]),
            "_null": halves(retrained),
        }
        for suffix, (reference, population) in pairs.items():
            for key, value in klom_summary(bench_klom(reference, population, form)).items():
                figures[f"{name}_{key}{suffix}"] = value
    return figures
