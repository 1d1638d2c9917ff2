"""Run the attacks that need shadow models on a method: U-LiRA, RMIA, the forgetting score and KLOM.

Each figure has two companions. "null" is the same figure between two halves of the retrained population: the noise of
the measure. "original" is the same figure for the shadow originals: the result without unlearning.

Own code, because the membership attacks on populations are what the strong audit is for.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..data.samples import Samples
from ..training.method import Method
from .forgetting_score import forgetting_score
from .klom import klom, klom_summary
from .lira import lira_on_model, scaled_logit, u_lira
from .populations import halves
from .rmia import rmia
from .shadows import Shadows

# Largest number of retain and of test samples that the attacks use.
MAX_SAMPLES = 2000

# {population: {set: values (models, samples)}}
Values = dict[str, dict[str, np.ndarray]]


def population_attacks(
    shadows: Shadows, method: Method, wanted: set[str], model: nn.Module, seed: int = 0
) -> dict[str, dict[str, Any]]:
    """Run the wanted attacks on `method`.

    Args:
        shadows: The shadow models.
        method: The method under test, with its settings.
        wanted: Names of attacks: "lira", "rmia", "challenge", "klom".
        model: The audited model, for `auc_this_model`.
        seed: Seed of the choice of retain and test samples.

    Returns:
        {attack: {figure: value}} as a record keeps it, each with its null, its original and the number of shadows.
    """
    split, task = shadows.split, shadows.task
    generator = torch.Generator().manual_seed(seed)
    some = lambda s: s.take(torch.randperm(len(s), generator=generator)[:MAX_SAMPLES].sort().values)  # noqa: E731
    sets: dict[str, Samples] = {
        "forget": split.forget,
        "retain": some(split.retain),
        "test": some(split.test),
    }
    logits = {
        "retrained": shadows.logits("retrained", sets),
        "original": shadows.logits("original", sets),
        "unlearned": shadows.unlearned(method, sets),
    }
    of_model = {n: task.predict(model, s).logits for n, s in sets.items()}
    margins: Values = {
        population: {n: scaled_logit(t.numpy(), sets[n].labels.numpy()) for n, t in row.items()}
        for population, row in {"model": of_model, **logits}.items()
    }
    attacks: dict[str, dict[str, Any]] = {}
    if "lira" in wanted:
        attacks["U-LiRA"] = _lira(margins)
    if "rmia" in wanted:
        attacks["RMIA"] = _rmia(margins)
    if "challenge" in wanted:
        attacks["forgetting score"] = _forgetting_score(margins, logits, sets)
    if "klom" in wanted:
        attacks["KLOM"] = _klom(margins)
    return {name: {**figures, "shadows": shadows.count} for name, figures in attacks.items()}


def _lira(margins: Values) -> dict[str, Any]:
    forget = {population: row["forget"] for population, row in margins.items()}
    retrained = forget["retrained"]
    figures: dict[str, Any] = u_lira(forget["unlearned"], retrained).to_dict()
    figures["auc_original"] = u_lira(forget["original"], retrained).auc
    a, b = halves(retrained)
    figures["auc_null"] = u_lira(a, b).auc if len(a) >= 3 else None
    # above 0: the unlearned models are surer of the forget samples than Retrain
    shift = np.median(forget["unlearned"], 0) - np.median(retrained, 0)
    figures["margin_shift"] = float(np.median(shift))
    figures["auc_this_model"] = lira_on_model(forget["model"], forget["unlearned"], retrained).auc
    return figures


def _rmia(margins: Values) -> dict[str, Any]:
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


def _accuracy(logits: Tensor, samples: Samples) -> float:
    return float((logits.argmax(-1) == samples.labels).double().mean())


def _forgetting_score(
    margins: Values, logits: dict[str, dict[str, Tensor]], sets: dict[str, Samples]
) -> dict[str, Any]:
    accuracies = {
        population: {n: _accuracy(row[n], sets[n]) for n in ("retain", "test")}
        for population, row in logits.items()
    }

    def score(population: str) -> dict[str, Any]:
        score = forgetting_score(
            margins[population]["forget"],
            margins["retrained"]["forget"],
            retain_accuracy=(accuracies[population]["retain"], accuracies["retrained"]["retain"]),
            test_accuracy=(accuracies[population]["test"], accuracies["retrained"]["test"]),
        )
        return asdict(score)

    a, b = halves(margins["retrained"]["forget"])
    null = forgetting_score(a, b).final
    return {**score("unlearned"), "final_original": score("original")["final"], "final_null": null}


def _klom(margins: Values) -> dict[str, Any]:
    """Return means and 95th percentiles. Each figure uses half a population, because the null has no more models."""
    figures: dict[str, Any] = {}
    for name in ("forget", "retain", "test"):
        a, b = halves(margins["retrained"][name])
        compared = {
            "": margins["unlearned"][name][: len(a)],
            "_null": a,
            "_original": margins["original"][name][: len(a)],
        }
        for suffix, population in compared.items():
            summary = klom_summary(klom(b, population))
            figures[f"{name}{suffix}"] = summary["mean"]
            figures[f"{name}_p95{suffix}"] = summary["p95"]
    return figures
