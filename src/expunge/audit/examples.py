"""Choose samples of a split that a report shows: as pictures, and as points of a feature plane."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .pictures import pictures

# Number of points in the feature plane from each set.
POINTS = {"forget": 150, "retain": 300, "test": 150}
# Number of example samples.
EXAMPLES = 12


def spread_positions(count: int, n: int) -> Tensor:
    """Return at most `n` of `count` positions. They are evenly spaced, and the same at every call."""
    if not count:
        return torch.empty(0, dtype=torch.long)
    return torch.linspace(0, count - 1, min(n, count)).round().long()


def embeddings(models: dict[str, Any]) -> dict[str, Any]:
    """Project penultimate features of some samples to their two largest principal components.

    Args:
        models: {name: evaluation}. A model without finite features is skipped.

    Returns:
        {name: {"x", "y"}}, and "label" and "set" of the points.
    """
    result: dict[str, Any] = {"label": [], "set": []}
    for number, (name, evaluation) in enumerate(models.items()):
        sets = {s: getattr(evaluation, s) for s in POINTS}
        chosen = {s: spread_positions(len(p.labels), POINTS[s]) for s, p in sets.items()}
        if any(p.features is None for p in sets.values()):
            continue
        x = torch.cat([p.features[chosen[s]] for s, p in sets.items()]).double()
        # a broken model or broken data has NaN features; the scores show the fault
        if not x.isfinite().all():
            continue
        _, _, v = torch.linalg.svd(x - x.mean(0), full_matrices=False)
        plane = ((x - x.mean(0)) @ v[:2].T).round(decimals=3)
        if plane.shape[1] < 2:
            continue
        result[name] = {"x": plane[:, 0].tolist(), "y": plane[:, 1].tolist()}
        if not number:
            result["label"] = torch.cat([p.labels[chosen[s]] for s, p in sets.items()]).tolist()
            result["set"] = [s for s in sets for _ in chosen[s]]
    return result


def examples(models: dict[str, Any]) -> list[dict[str, Any]]:
    """Describe some forget samples with the prediction of each model.

    Args:
        models: {name: evaluation}, all on one split.

    Returns:
        One dictionary for each of at most 12 samples. "png" is a picture in base64, or None for data that is not
        images. "label" and "id" describe the sample. Each model's entry has "class" and "confidence".
    """
    first = next(iter(models.values()))
    positions = spread_positions(len(first.forget.labels), EXAMPLES)
    samples = first.split.forget.take(positions)
    rows = []
    for position, image, identity in zip(positions.tolist(), pictures(samples), samples.ids, strict=True):
        row: dict[str, Any] = {"png": image, "label": int(first.forget.labels[position]), "id": identity}
        for name, evaluation in models.items():
            p = evaluation.forget.probabilities[position]
            row[name] = {"class": int(p.argmax()), "confidence": float(p.max())}
        rows.append(row)
    return rows
