"""Run the attacks that need shadow models on a method: U-LiRA, RMIA, the forgetting score, KLOM, IAM and RULI.

`population_figures.py` has the figures. Own code, because the membership attacks on populations are what the strong
audit is for.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..data.samples import Samples
from ..data.split import Split
from ..errors import ExpungeError
from ..training.method import Method
from .forgetting_score import forgetting_score
from .lira import scaled_logit
from .population_figures import (
    Values,
    iam_figures,
    klom_figures,
    lira_figures,
    rmia_figures,
    ruli_figures,
)
from .populations import halves
from .shadows import Shadows

# Largest number of retain and of test samples that the attacks use.
MAX_SAMPLES = 2000


def population_attacks(
    shadows: Shadows, method: Method, wanted: set[str], model: nn.Module, seed: int = 0
) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """Run the wanted attacks on `method`.

    Args:
        shadows: The shadow models.
        method: The method under test, with its settings.
        wanted: Names of attacks: "lira", "rmia", "challenge", "klom", "iam", "ruli".
        model: The audited model, for `auc_this_model`.
        seed: Seed of the choice of retain and test samples.

    Returns:
        {attack: {figure: value}} as a record keeps it, each with its null, its original and the number of shadows. And
        a sentence for each part that was left out.
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
    limits: list[str] = []
    if "lira" in wanted:
        attacks["U-LiRA"] = lira_figures(margins)
    if "rmia" in wanted:
        attacks["RMIA"] = rmia_figures(margins)
    if "challenge" in wanted:
        attacks["forgetting score"] = _forgetting_score(margins, logits, sets)
    if "klom" in wanted:
        attacks["KLOM"] = klom_figures(margins)
        attacks["KLOM of data-unlearning-bench"] = klom_figures(margins, bench=True)
    if "iam" in wanted:
        attacks["IAM"] = iam_figures(margins)
    if "ruli" in wanted:
        other, limits = _after_other_requests(shadows, method, seed)
        attacks |= {f"RULI {part}": figures for part, figures in ruli_figures(margins, other).items()}
    return {name: {**figures, "shadows": shadows.count} for name, figures in attacks.items()}, limits


def _after_other_requests(shadows: Shadows, method: Method, seed: int) -> tuple[np.ndarray | None, list[str]]:
    """Return margins (N, n) on the forget set of retrained shadows after `method` unlearned other samples from them."""
    forget = shadows.split.forget
    try:
        logits = shadows.unlearned(method, {"forget": forget}, other_request(shadows.split, seed))["forget"]
    except ExpungeError as error:
        return None, [f"The privacy part of RULI was left out: {p}" for p in error.problems]
    return scaled_logit(logits.numpy(), forget.labels.numpy()), []


def other_request(split: Split, seed: int) -> Split:
    """Return a request for as many other samples: random ones of the retain set, or as many other classes.

    Args:
        split: The split of the audit. Its forget set takes no part in the new split.
        seed: Seed of the choice.

    Raises:
        ExpungeError: If the retain set is too small.
    """
    generator = torch.Generator().manual_seed(seed)
    retain, none = split.retain, torch.empty(0, dtype=torch.int64)
    classes: tuple[int, ...] = ()
    test, test_forgotten = split.test, split.test_forgotten.take(none)
    if split.forget_classes:
        present = retain.labels.unique()
        chosen = present[torch.randperm(len(present), generator=generator)[: len(split.forget_classes)]]
        classes = tuple(sorted(chosen.tolist()))
        asked, also = torch.isin(retain.labels, chosen), torch.isin(test.labels, chosen)
        test, test_forgotten = test.take(~also), test.take(also)
    else:
        asked = torch.zeros(len(retain), dtype=torch.bool)
        asked[torch.randperm(len(retain), generator=generator)[: len(split.forget)]] = True
    if asked.all():
        raise ExpungeError(
            f"the retain set has {len(retain)} samples, too few for a second request; give more data."
        )
    return replace(
        split,
        forget=retain.take(asked),
        retain=retain.take(~asked),
        test=test,
        test_forgotten=test_forgotten,
        withheld=split.withheld.take(none),
        held_out=none,
        forget_classes=classes,
        spec={**split.spec, "other_request": seed},
    )


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
