"""What populations of shadow models say of a method: U-LiRA, RMIA, the challenge's forgetting score, KLOM.

Each figure stands beside the same figure between two halves of the retrained population ("null": what the
measure says of models that differ in nothing) and for the shadow originals ("original": without
unlearning).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..data.samples import Samples
from ..training.method import Method
from .distance import challenge_score, klom, klom_summary
from .lira import Told, halves, lira_on_model, rmia, scaled_logit, u_lira
from .population import Shadows

MOST = 2000  # retain and test samples that populations are judged on


def population_attacks(
    shadows: Shadows, method: Method, wanted: set[str], model: nn.Module, seed: int = 0
) -> dict[str, dict[str, Any]]:
    """U-LiRA, RMIA, the challenge's score and KLOM of `method`, each with its value between two halves of
    the retrained population ("null": the attack's own noise) and without unlearning ("original")."""
    split, task = shadows.split, shadows.task
    draw = torch.Generator().manual_seed(seed)
    few = lambda s: s.take(torch.randperm(len(s), generator=draw)[:MOST].sort().values)  # noqa: E731
    sets: dict[str, Samples] = {"forget": split.forget, "retain": few(split.retain), "test": few(split.test)}
    logits = {
        "retrained": shadows.logits("retrained", sets),
        "original": shadows.logits("original", sets),
        "unlearned": shadows.unlearned(method, sets),
    }
    seen = {"model": {n: task.predict(model, s).logits for n, s in sets.items()}, **logits}
    phi = {
        kind: {n: scaled_logit(t.numpy(), sets[n].labels.numpy()) for n, t in row.items()}
        for kind, row in seen.items()
    }
    found: dict[str, dict[str, Any]] = {}
    if "lira" in wanted:
        found["U-LiRA"] = _lira(phi)
    if "rmia" in wanted:
        found["RMIA"] = _rmia(phi)
    if "challenge" in wanted:
        found["forgetting score"] = _challenge(phi, logits, sets)
    if "klom" in wanted:
        found["KLOM"] = _klom(phi)
    return {k: {**v, "shadows": shadows.count} for k, v in found.items()}


def _lira(phi: dict[str, dict[str, np.ndarray]]) -> dict[str, Any]:
    retrained, forget = phi["retrained"]["forget"], {k: row["forget"] for k, row in phi.items()}
    row: dict[str, Any] = u_lira(forget["unlearned"], retrained).to_dict()
    row["auc_original"] = u_lira(forget["original"], retrained).auc
    row["auc_null"] = _null(lambda a, b: u_lira(a, b), retrained)
    shift = np.median(forget["unlearned"], 0) - np.median(retrained, 0)
    row["margin_shift"] = float(np.median(shift))  # above 0: surer of forget samples than Retrain
    row["auc_this_model"] = lira_on_model(forget["model"], forget["unlearned"], retrained).auc
    return row


def _null(attack: Callable[[np.ndarray, np.ndarray], Told], population: np.ndarray) -> float | None:
    a, b = halves(population)
    return attack(a, b).auc if len(a) >= 3 else None


def _rmia(phi: dict[str, dict[str, np.ndarray]]) -> dict[str, Any]:
    sure = {k: tuple(1 / (1 + np.exp(-row[n])) for n in ("forget", "test")) for k, row in phi.items()}
    row: dict[str, Any] = rmia(sure["unlearned"], sure["retrained"]).to_dict()  # type: ignore[arg-type]
    row["auc_original"] = rmia(sure["original"], sure["retrained"]).auc  # type: ignore[arg-type]
    (a, b), (c, d) = halves(sure["retrained"][0]), halves(sure["retrained"][1])
    row["auc_null"] = rmia((a, c), (b, d)).auc if len(a) >= 3 else None
    return row


def _accuracy(logits: Tensor, samples: Samples) -> float:
    return float((logits.argmax(-1) == samples.labels).double().mean())


def _challenge(
    phi: dict[str, dict[str, np.ndarray]], logits: dict[str, dict[str, Tensor]], sets: dict[str, Samples]
) -> dict[str, Any]:
    rates = {
        kind: {n: _accuracy(row[n], sets[n]) for n in ("retain", "test")} for kind, row in logits.items()
    }

    def score(kind: str) -> dict[str, Any]:
        return asdict(
            challenge_score(
                phi[kind]["forget"],
                phi["retrained"]["forget"],
                retain_accuracy=(rates[kind]["retain"], rates["retrained"]["retain"]),
                test_accuracy=(rates[kind]["test"], rates["retrained"]["test"]),
            )
        )

    row, (a, b) = score("unlearned"), halves(phi["retrained"]["forget"])
    return {**row, "final_original": score("original")["final"], "final_null": challenge_score(a, b).final}


def _klom(phi: dict[str, dict[str, np.ndarray]]) -> dict[str, Any]:
    """Means and 95th percentiles; both populations in halves, so that the null has as many models as the
    measure.
    """
    row: dict[str, Any] = {}
    for name in ("forget", "retain", "test"):
        a, b = halves(phi["retrained"][name])
        summary = {
            "": klom_summary(klom(b, phi["unlearned"][name][: len(a)])),
            "_null": klom_summary(klom(b, a)),
            "_original": klom_summary(klom(b, phi["original"][name][: len(a)])),
        }
        for suffix, found in summary.items():
            row[f"{name}{suffix}"] = found["mean"]
            row[f"{name}_p95{suffix}"] = found["p95"]
    return row
