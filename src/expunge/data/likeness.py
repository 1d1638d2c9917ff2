"""Importance weights that make validation samples stand for unseen samples like those of the forget set.

Retrain never saw the forget set. The original never saw the validation set. So the weighted validation scores of the
original estimate the forget scores of Retrain, without training it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .samples import as_text
from .split import Split

# With fewer validation samples of the forgotten group, all validation samples are the better estimate.
MIN_GROUP = 20


def importance_weights(split: Split) -> Tensor:
    """Weight the samples that training never saw (`Split.unseen`) to have the class distribution of the forget set.

    If a group is forgotten and at least 20 of them belong to it, the other samples get weight 0. A random
    forget set has the distribution of the validation set, so all weights are 1. Classes without validation samples count
    nowhere. Labels that are no class numbers are not weighted.

    Returns:
        Weights (N,), float64, mean 1: one per sample of `split.unseen`.

    Example:
        >>> correct = task.predict(original, split.unseen).correct
        >>> expected_accuracy = weighted_mean(correct, importance_weights(split))
    """
    labels = split.unseen.labels
    weights = torch.ones(len(labels), dtype=torch.float64)
    if split.scenario == "random":
        return weights
    if split.scenario == "group":
        groups, values = split.unseen.data.groups, set(split.spec["values"])
        # a test set need not have the column
        column = as_text(groups[name]) if (name := split.spec["column"]) in groups else None
        if column is not None:
            in_group = torch.tensor([v in values for v in column[split.unseen.index.numpy()]])
            weights = in_group.double() if int(in_group.sum()) >= MIN_GROUP else weights
    if not split.num_classes:
        return weights / weights.mean()
    available = torch.bincount(labels, weights, split.num_classes)
    wanted = torch.bincount(split.forget.labels, minlength=split.num_classes)
    weights = weights * (wanted / available.clamp(min=1))[labels]
    return weights / weights.mean() if weights.any() else torch.ones_like(weights)


def weighted_mean(values: Tensor, weights: Tensor) -> float:
    """Return the mean of `values` (N,) under `weights` (N,)."""
    return float((values.double().cpu() * weights).sum() / weights.sum())
