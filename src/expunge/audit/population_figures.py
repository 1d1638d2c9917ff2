"""Figures of a record from margins of model populations: U-LiRA, RMIA, KLOM, IAM and RULI's efficacy.

Each figure has two companions. "null" is the same figure between two halves of the retrained population: the noise of
the measure. "original" is the same figure for the models before unlearning.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .klom import bench_klom, klom, klom_summary
from .lira import lira_on_model, u_lira
from .measures.iam import completeness, fit_signal
from .populations import Floats, halves
from .rmia import rmia
from .ruli import ruli_attack, vulnerability_of

# {population: {set: margins (models, samples)}}: "retrained", "unlearned" and "original", with "forget", "retain", "test"
Values = dict[str, dict[str, Floats]]


def lira_figures(margins: Values) -> dict[str, Any]:
    """Return the figures of U-LiRA. `auc_this_model` needs the margins of one model as the population "model"."""
    forget = {population: row["forget"] for population, row in margins.items()}
    retrained = forget["retrained"]
    figures: dict[str, Any] = u_lira(forget["unlearned"], retrained).to_dict()
    figures["auc_original"] = u_lira(forget["original"], retrained).auc
    a, b = halves(retrained)
    figures["auc_null"] = u_lira(a, b).auc if len(a) >= 3 else None
    # above 0: the unlearned models are surer of the forget samples than Retrain
    shift = np.median(forget["unlearned"], 0) - np.median(retrained, 0)
    figures["margin_shift"] = float(np.median(shift))
    if "model" in forget:
        figures["auc_this_model"] = lira_on_model(forget["model"], forget["unlearned"], retrained).auc
    return figures


def rmia_figures(margins: Values) -> dict[str, Any]:
    """Return the figures of RMIA."""
    confidences = {
        population: (1 / (1 + np.exp(-row["forget"])), 1 / (1 + np.exp(-row["test"])))
        for population, row in margins.items()
    }
    retrained = confidences["retrained"]
    figures: dict[str, Any] = rmia(confidences["unlearned"], retrained).to_dict()
    figures["auc_original"] = rmia(confidences["original"], retrained).auc
    (a, b), (c, d) = halves(retrained[0]), halves(retrained[1])
    figures["auc_null"] = rmia((a, c), (b, d)).auc if len(a) >= 3 else None
    return figures


def klom_figures(margins: Values, *, bench: bool = False) -> dict[str, Any]:
    """Return means and 95th percentiles. Each figure uses half a population, because the null has no more models.

    Args:
        margins: The margins.
        bench: Use the repaired form of data-unlearning-bench instead of ours.
    """
    divergence = bench_klom if bench else klom
    figures: dict[str, Any] = {}
    for name in ("forget", "retain", "test"):
        a, b = halves(margins["retrained"][name])
        compared = {
            "": margins["unlearned"][name][: len(a)],
            "_null": a,
            "_original": margins["original"][name][: len(a)],
        }
        for suffix, population in compared.items():
            summary = klom_summary(divergence(b, population))
            figures[f"{name}{suffix}"] = summary["mean"]
            figures[f"{name}_p95{suffix}"] = summary["p95"]
    return figures


def iam_figures(margins: Values) -> dict[str, Any]:
    """Return the mean completeness over models and samples, and the share of samples below all models that never saw them.

    Model k before unlearning is model k of "original". For the null, one half of the retrained models never saw the
    samples, and the other half stands for the unlearned ones.
    """
    signals = {p: fit_signal(margins[p]["forget"]) for p in ("unlearned", "original", "retrained")}
    a, b = halves(signals["retrained"])
    compared = {
        "": (signals["unlearned"], signals["retrained"]),
        "_original": (signals["original"], signals["retrained"]),
        "_null": (a, b),
    }
    figures: dict[str, Any] = {}
    for suffix, (own, out) in compared.items():
        pairs = zip(own, signals["original"], strict=False)
        values = [completeness(one, fit, out) for one, fit in pairs]
        figures[f"completeness{suffix}"] = float(np.mean(values))
        figures[f"below_unseen{suffix}"] = float((own < out.min(0)).mean())
    return figures


def ruli_figures(margins: Values, other: Floats | None = None) -> dict[str, Any]:
    """Return the figures of RULI, {"efficacy": ..., "privacy": ...}.

    Args:
        margins: The margins.
        other: Margins (N, n) on the forget set of models that never saw it and unlearned other samples. Without them,
            the privacy part is left out.
    """
    forget = {population: row["forget"] for population, row in margins.items()}
    vulnerability = vulnerability_of(forget["original"], forget["retrained"])
    parts = {"efficacy": ruli_attack(forget["unlearned"], forget["retrained"], vulnerability)}
    parts["efficacy"]["auc_original"] = ruli_attack(forget["original"], forget["retrained"])["auc"]
    pairs = {"efficacy": halves(forget["retrained"])}
    if other is not None:
        parts["privacy"] = ruli_attack(forget["unlearned"], other, vulnerability)
        pairs["privacy"] = halves(other)
    for name, (a, b) in pairs.items():
        parts[name]["auc_null"] = ruli_attack(a, b)["auc"] if len(a) >= 3 else None
    return parts
