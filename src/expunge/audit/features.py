"""Whether forgetting reaches below the head: measures on penultimate features and on the head's bias.

A classifier can be made never to say "three" by an edit of one bias (Sepahvand et al., and the null
baseline `bias_shift`), while everything it knew of threes is still in its features. None of these figures
is good or bad by itself: features of a model that never saw a class tell it apart too, so every figure
stands beside Retrain's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..data.samples import Samples, as_text
from ..data.split import Split
from ..errors import ModelError
from ..tasks.classification import Classification, Predictions
from .accuracy import Judged, judge
from .mia import auc
from .probes import cka, neighbours, probe, probed, scatter_ratio

MOST = 20_000  # training samples that probes and neighbours are taken from


def look(
    model: nn.Module, split: Split, task: Classification, *, seed: int = 0, judged: Judged | None = None
) -> Judged:
    """One pass over the split; at most 20,000 retain samples. Out of `judged` where the whole split was seen before. Raises
    `ModelError` for models without a linear head.
    """
    if not task.has_head(model, split.retain):
        raise ModelError(
            "the model has no linear head that takes one vector a sample, so it has no features to look at."
        )
    draw = torch.Generator().manual_seed(seed)
    at = torch.randperm(len(split.retain), generator=draw)[:MOST].sort().values
    fewer = replace(split, retain=split.retain.take(at))
    if judged is None or judged.retain.features is None:
        return judge(model, fewer, task, seed=seed)
    seen = judged.retain
    few = Predictions(seen.logits[at], seen.labels[at], seen.features[at])  # type: ignore[index]
    return replace(judged, split=fewer, retain=few)


# ---- the head's bias


def bias_correction(seen: Judged, classes: list[int]) -> dict[str, float]:
    """What one number added to the forgotten classes' logits brings back.

    The shift that makes the mean of forget and retain accuracy (training samples) best, and with it the
    accuracy on unseen samples: `forgotten` and `retained`, percent. If a head edit hid the class, the first
    is near the original's.
    """
    is_f = torch.tensor(classes)
    f, r = seen.forget, seen.retain
    need = _margins(f, is_f)  # forget samples are right from this shift on
    room = -_margins(r, is_f)  # retained ones are right below this one
    shifts = torch.cat([need, room]).unique()
    shifts = torch.cat(
        [shifts[:1] - 1, (shifts[1:] + shifts[:-1]) / 2, shifts[-1:] + 1, torch.zeros(1, dtype=torch.float64)]
    )
    shifts = shifts[shifts.isfinite()]
    up = torch.searchsorted(need.sort().values, shifts, right=True) / len(need)
    down = 1 - torch.searchsorted(room.sort().values, shifts) / len(room)
    best = shifts[(up + down).argmax()]
    shown = {}
    for name, p in (("forgotten", seen.test_forgotten), ("retained", seen.test)):
        logits = p.logits.double().clone()
        logits[:, is_f] += best
        shown[name] = (
            100 * (logits.argmax(1) == p.labels).double().mean().item() if len(p.labels) else float("nan")
        )
    return {"shift": float(best), **shown}


def _margins(p: Predictions, is_f: Tensor) -> Tensor:
    """For samples of forgotten classes the shift from which they are right; for others minus the one up to
    which they are; infinite for samples that no shift makes right."""
    z = p.logits.double()
    forgotten = torch.zeros(z.shape[1], dtype=torch.bool)
    forgotten[is_f] = True
    one, others = z[:, forgotten], z[:, ~forgotten]
    gap = others.max(1).values - one.max(1).values
    own_side = forgotten[p.labels]
    winner = torch.where(own_side, is_f[one.argmax(1)], (~forgotten).nonzero()[:, 0][others.argmax(1)])
    right = winner == p.labels
    return torch.where(right, torch.where(own_side, gap, -gap), torch.tensor(torch.inf, dtype=torch.float64))


def head_bias(bias: Tensor | None, classes: list[int]) -> dict[str, float] | None:
    """Three figures of a head's biases (K,), None for a head without: BSC = 1 / (1 + |mean b_f - mean
    b_r|), MBG = sigmoid(median b_f - min b_r), MBS = sigmoid(min b_f - min b_r); LB-HR and TS-BGRM's papers
    judge by them."""
    if bias is None:
        return None
    b = bias.detach().double().cpu()
    is_f = torch.isin(torch.arange(len(b)), torch.tensor(classes))
    f, r = b[is_f], b[~is_f]
    return {
        "BSC": float(1 / (1 + (f.mean() - r.mean()).abs())),
        "MBG": float(torch.sigmoid(f.median() - r.min())),
        "MBS": float(torch.sigmoid(f.min() - r.min())),
    }


# ---- where predictions go, and who pays


def total_variation(p: Tensor, q: Tensor) -> float:
    """Half the sum of absolute differences of two distributions (K,), in [0, 1]."""
    return float((p - q).abs().sum() / 2)


def _gone(seen: Judged) -> Tensor:
    """Where predictions of forgotten samples go (K,), of unseen ones where there are any."""
    return (seen.test_forgotten if len(seen.test_forgotten.labels) else seen.forget).shares


def worst_group(p: Predictions, samples: Samples) -> dict[str, Any] | None:
    """The group (of all columns of the data) with the lowest accuracy: column, value, accuracy, size; None
    without groups.
    """
    rows = []
    for column, values in samples.data.groups.items():
        there = as_text(values[samples.index.numpy()])
        for value in np.unique(there):
            hit = torch.from_numpy(there == value)
            rows.append(
                {
                    "column": column,
                    "value": str(value),
                    "accuracy": 100 * p.correct[hit].double().mean().item(),
                    "size": int(hit.sum()),
                }
            )
    return min(rows, key=lambda r: r["accuracy"]) if rows else None


# ---- all of it


def measure(model: nn.Module, seen: Judged, split: Split, task: Classification) -> dict[str, Any]:
    """The figures of one model that need no other model; percent where they are accuracies. See
    `docs/audit.md`.
    """
    found: dict[str, Any] = {}
    classes = list(split.forget_classes)
    x, y = (
        torch.cat([_x(seen.forget), _x(seen.retain)]),
        torch.cat([seen.forget.labels, seen.retain.labels]),
    )
    if classes and len(seen.test_forgotten.labels):
        weights = probe(x, y, task.num_classes)
        for name, p in (("forgotten", seen.test_forgotten), ("retained", seen.test)):
            found[f"probe_{name}"] = _percent(probed(weights, _x(p)).argmax(1), p.labels)
            found[f"knn_{name}"] = _percent(neighbours(x, y, _x(p), task.num_classes), p.labels)
        corrected = bias_correction(seen, classes)
        found.update(
            bias_shift=corrected["shift"],
            corrected_forgotten=corrected["forgotten"],
            corrected_retained=corrected["retained"],
        )
        test = [
            torch.cat(pair)
            for pair in (
                (_x(seen.test), _x(seen.test_forgotten)),
                (seen.test.labels, seen.test_forgotten.labels),
            )
        ]
        found["scatter"] = scatter_ratio(test[0], test[1], classes)
        if bias := head_bias(task.head(model)[1].bias, classes):
            found.update(bias)
    found["member_probe"] = _member_probe(seen, classes)
    gone = _gone(seen)
    found["redistribution_entropy"] = abs(float((gone[gone > 0] * gone[gone > 0].log()).sum()))
    return found


def _x(p: Predictions) -> Tensor:
    assert p.features is not None
    return p.features


def _percent(predicted: Tensor, labels: Tensor) -> float:
    return 100 * (predicted == labels).double().mean().item()


def _member_probe(seen: Judged, classes: list[int]) -> float | None:
    """AUC of a linear probe that tells forget samples' features from unseen ones of the same kind, each
    judged by a probe that was fitted on the other half; None where there are fewer than ten unseen ones."""
    unseen = seen.test_forgotten if classes else seen.test
    if len(unseen.labels) < 10 or len(seen.forget.labels) < 10:
        return None
    a, b = _x(seen.forget), _x(unseen)
    scores: list[list[Tensor]] = [[], []]
    for odd in (0, 1):
        fit = [t[odd::2] for t in (a, b)]
        y = torch.cat([torch.ones(len(fit[0])), torch.zeros(len(fit[1]))]).long()
        w = probe(torch.cat(fit), y, 2)
        for k, t in enumerate((a, b)):
            out = probed(w, t[1 - odd :: 2])
            scores[k].append(out[:, 1] - out[:, 0])
    return float(np.mean([auc(p.numpy(), n.numpy()) for p, n in zip(*scores, strict=True)]))


def feature_audit(
    models: dict[str, nn.Module],
    split: Split,
    task: Classification,
    *,
    seed: int = 0,
    judged: Mapping[str, Judged] | None = None,
) -> dict[str, dict[str, Any]]:
    """Every feature-level figure of each model given ("original", "unlearned", "retrained"), {measure:
    {model: figure}}.

    Also `cka_original` and `cka_retrained` on the forget set, `tv_retrained` (total variation distance of where its
    predictions of forgotten samples go to where Retrain's go), `worst_class_accuracy` and `worst_group`. `judged` are
    the models' predictions on the whole split, where they were taken. Raises `ModelError` for a model without a linear
    head.
    """
    known = judged or {}
    seen = {name: look(m, split, task, seed=seed, judged=known.get(name)) for name, m in models.items()}
    found = {name: measure(m, seen[name], split, task) for name, m in models.items()}
    for name, row in found.items():
        for other in ("original", "retrained"):
            if other in seen:
                row[f"cka_{other}"] = cka(_x(seen[name].forget), _x(seen[other].forget))
        if "retrained" in seen:
            row["tv_retrained"] = total_variation(_gone(seen[name]), _gone(seen["retrained"]))
        p = seen[name].test
        row["worst_class_accuracy"] = min(
            100 * p.correct[p.labels == k].double().mean().item() for k in p.labels.unique()
        )
        if (group := worst_group(p, split.test)) is not None:
            row["worst_group"] = f"{group['column']} = {group['value']}"
            row["worst_group_accuracy"] = group["accuracy"]
    measures = {m: None for row in found.values() for m in row}
    return {m: {name: row[m] for name, row in found.items() if m in row} for m in measures}
