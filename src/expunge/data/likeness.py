"""Importance weights that make validation samples stand for unseen samples like those of the forget set.

Retrain never saw the forget set. The original never saw the validation set. So the weighted validation scores of the
original estimate the forget scores of Retrain, without training it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .id_forms import as_text
from .split import Split

# With fewer validation samples of the forgotten group, all validation samples are the better estimate.
MIN_GROUP = 20
# With fewer comparable samples, an estimate from them alone is poor: the standard error of a share of 30 is up to 9 points.
FEW = 30
# With fewer than `FEW` comparable samples, all unseen samples together count as this many more (docs/validation.md).
BORROWED = 10


@dataclass(frozen=True, eq=False)
class Likeness:
    """How far the unseen samples can stand for the forget set.

    Args:
        weights: Importance weights of `split.unseen` (N,), float64, mean 1.
        samples: Number of comparable unseen samples: those of the forgotten classes or of the forgotten group.
        size: Number of equally weighted samples that say as much as the comparable ones.
    """

    weights: Tensor
    samples: int
    size: float

    def error(self, percent: float) -> float:
        """Return the standard error of a share that these samples estimate, in percentage points.

        One more sample of each kind is assumed (`standard_error`), so that 0 of 3 samples is no certainty.

        Args:
            percent: The estimated share in percent.
        """
        return standard_error(percent, self.size)


@dataclass(frozen=True)
class Target:
    """A share of unseen samples that a method aims at.

    Args:
        percent: The share in percent.
        error: Its standard error in percentage points; 0 where the share is known.
        samples: Number of comparable unseen samples behind it; None where the share is known.
    """

    percent: float
    error: float = 0.0
    samples: int | None = None

    @classmethod
    def of(cls, correct: Tensor, likeness: Likeness) -> Target:
        """Return the weighted share of correct samples (N,) of `split.unseen`."""
        percent = 100 * weighted_mean(correct, likeness.weights)
        return cls(percent, likeness.error(percent), likeness.samples)

    def __str__(self) -> str:
        if self.samples is None:
            return f"{self.percent:.1f}"
        return f"{self.percent:.1f} ± {self.error:.1f} ({count_text(self.samples)})"


def count_text(samples: int) -> str:
    """Return the number of comparable samples in words."""
    return f"{samples:,} comparable sample{'' if samples == 1 else 's'}"


def few_text(samples: int) -> str:
    """Return the warning that too few unseen samples are comparable with the forget set, with the remedy."""
    return (
        f"only {samples} unseen sample{' is' if samples == 1 else 's are'} comparable with the forget set, so what they estimate is a "
        f"rough guess: the target of a stop rule, and the gap of trials. Give at least {FEW}: take a larger share (validation=0.5, "
        "--validation 0.5), or name more samples (unseen_ids, --unseen-ids)."
    )


def standard_error(percent: float, size: float) -> float:
    """Return the standard error of a share of `size` samples, in percentage points.

    The share is first moved toward one half, by one sample of each kind: p = (x + 1) / (n + 2). The error is then
    sqrt(p * (1 - p) / n).

    Example:
        >>> round(standard_error(100 * 2 / 12, 12), 1)
        11.8
    """
    size = max(size, 1.0)
    share = (percent / 100 * size + 1) / (size + 2)
    return 100 * math.sqrt(share * (1 - share) / size)


def likeness(split: Split) -> Likeness:
    """Return how the samples that training never saw (`Split.unseen`) stand for the forget set.

    The weights give them the class distribution of the forget set. If a group is forgotten and at least 20 of them belong
    to it, the other samples get weight 0. A random forget set has the distribution of the validation set, so all weights
    are 1. Classes without validation samples count nowhere. Labels that are no class numbers are not weighted.

    If fewer than 30 samples are of the forgotten classes, all unseen samples together count as 10 more of them: their share
    is closer to Retrain's than the share of a handful (measured in docs/validation.md).
    """
    labels = split.unseen.labels
    ones = torch.ones(len(labels), dtype=torch.float64)
    if split.scenario == "random":
        return Likeness(ones, len(ones), float(len(ones)))
    in_group = _in_group(split)
    weights = ones if in_group is None else in_group.double()
    if split.num_classes:
        available = torch.bincount(labels, weights, split.num_classes)
        wanted = torch.bincount(split.forget.labels, minlength=split.num_classes)
        weights = weights * (wanted / available.clamp(min=1))[labels]
    samples = int((weights > 0).sum())
    if not samples:
        return Likeness(ones, 0, 0.0)
    size = effective_size(weights)
    if in_group is None and split.num_classes and samples < FEW:
        borrowed = BORROWED / (samples + BORROWED)
        weights = (1 - borrowed) * weights / weights.sum() + borrowed * ones / len(ones)
    return Likeness(weights / weights.mean(), samples, size)


def of_removed_classes(split: Split) -> Tensor:
    """Return which forget samples have a class without retained samples, bool (N,).

    A model that never saw them never predicts their class. In the union of a request for a class and one for ids, only the
    samples of the class are such.
    """
    labels = split.forget.labels
    if not split.forget_classes:
        return torch.zeros(len(labels), dtype=torch.bool)
    return ~torch.isin(labels, split.retain.labels)


def removes_classes_only(split: Split) -> bool:
    """Return whether no forget sample has a class that is retained."""
    return bool(split.forget_classes) and bool(of_removed_classes(split).all())


def retained_likeness(split: Split) -> Likeness:
    """Return how unseen samples stand for the forget samples whose classes are retained.

    Unseen samples of removed classes have weight 0. All weights are 0 if there are no others.
    """
    removed = of_removed_classes(split)
    if not removed.any():
        return likeness(split)
    alike = likeness(replace(split, forget=split.forget.take(~removed)))
    kept = ~torch.isin(split.unseen.labels, torch.tensor(split.forget_classes))
    weights = alike.weights * kept
    # without unseen samples of the classes, all others are the best estimate
    return replace(alike, weights=weights if weights.any() else kept.double())


def importance_weights(split: Split) -> Tensor:
    """Return the weights of `likeness`.

    Returns:
        Weights (N,), float64, mean 1: one per sample of `split.unseen`.

    Example:
        >>> correct = task.predict(original, split.unseen).correct
        >>> expected_accuracy = weighted_mean(correct, importance_weights(split))
    """
    return likeness(split).weights


def _in_group(split: Split) -> Tensor | None:
    """Return which unseen samples belong to the forgotten group, bool (N,); None where they are too few or none is forgotten."""
    if split.scenario != "group":
        return None
    # a test set need not have the column
    groups, values = split.unseen.data.groups, set(split.spec["values"])
    column = as_text(groups[name]) if (name := split.spec["column"]) in groups else None
    if column is None:
        return None
    in_group = torch.tensor([v in values for v in column[split.unseen.index.numpy()]])
    return in_group if int(in_group.sum()) >= MIN_GROUP else None


def effective_size(weights: Tensor) -> float:
    """Return the number of equally weighted samples that say as much as the weighted ones."""
    return float(weights.sum() ** 2 / weights.square().sum())


def weighted_mean(values: Tensor, weights: Tensor) -> float:
    """Return the mean of `values` (N,) under `weights` (N,)."""
    return float((values.double().cpu() * weights).sum() / weights.sum())
