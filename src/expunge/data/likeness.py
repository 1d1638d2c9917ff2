"""What samples like the forget set look like to a model that never saw them: validation samples, weighed to be alike."""

from __future__ import annotations

import torch
from torch import Tensor

from .samples import as_text
from .split import Split

FEW = 20  # validation samples of a group: fewer say less of it than all the others do


def likeness(split: Split) -> Tensor:
    """How much each validation sample counts (N,), 1 on average, for them to be what Retrain's forget samples are: unseen
    ones of the same classes in the same shares, and where a group is forgotten, of that group.

    A random forget set is made up as they are. Classes that no validation sample has are left out.
    """
    labels = split.validation.labels
    counts = torch.ones(len(labels), dtype=torch.float64)
    if split.scenario == "random":
        return counts
    if split.scenario == "group":
        column, values = as_text(split.forget.data.groups[split.spec["column"]]), set(split.spec["values"])
        alike = torch.tensor([v in values for v in column[split.validation.index.numpy()]])
        counts = alike.double() if int(alike.sum()) >= FEW else counts
    there = torch.bincount(labels, counts, split.num_classes)
    wanted = torch.bincount(split.forget.labels, minlength=split.num_classes)
    counts = counts * (wanted / there.clamp(min=1))[labels]
    return counts / counts.mean() if counts.any() else torch.ones_like(counts)


def mean_like(values: Tensor, likeness: Tensor) -> float:
    """The mean of `values` (N,), each counting as much as `likeness` says."""
    return float((values.double().cpu() * likeness).sum() / likeness.sum())
