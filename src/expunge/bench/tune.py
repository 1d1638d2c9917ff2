"""Choosing a method's settings at an equal budget, on validation data, without the model that never saw the forget set.

The field's published settings were chosen by the smallest gap to Retrain, which nobody has who must unlearn; that choice
is offered as `by="gap"` and named an oracle wherever it is shown.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from ..audit.accuracy import Judged, gaps, judge
from ..classification import Classification
from ..errors import ExpungeError
from ..method import Method, execute
from ..run import Compute
from ..split import Split

By = Literal["validation", "gap"]


@dataclass(frozen=True)
class Trial:
    """Settings that were tried, and their distance (points, smaller is better)."""

    settings: dict[str, Any]
    distance: float
    status: str


def trials(method: Method, count: int, fixed: tuple[str, ...] = ()) -> list[dict[str, Any]]:
    """`count` settings of the method's `search` space, the same at every call: all of them, or a Latin hypercube.

    Then each field's values are taken from end to end as evenly as `count` allows (of five learning rates three trials
    take the first, third and fifth), in an order of their own for each field but the first. The fields in `fixed` keep
    their values, and no trial is spent on them.
    """
    space = {k: v for k, v in type(method).search.items() if k not in fixed}
    if not space:
        return [{}]
    every = list(itertools.product(*space.values()))
    draw = np.random.RandomState(0)
    columns: list[list[Any]] = []
    for values in space.values():
        even = [values[int((k + 0.5) * len(values) / count)] for k in range(count)]
        columns.append([even[k] for k in draw.permutation(count)] if columns else even)
    rows = dict.fromkeys(
        [*zip(*columns, strict=True), *every]
    )  # a row that came twice makes room for one more
    return [dict(zip(space, row, strict=True)) for row in list(rows)[:count]]


def distance_from_unseen(model: nn.Module, original: nn.Module, split: Split, task: Classification) -> float:
    """How far forget samples are from what unseen ones look like, and what was lost, in points; smaller is better.

    Ours. The mean of four figures: class-wise, accuracy on the forget set and on the forgotten classes' validation
    samples (a model that never saw the class has 0); else |accuracy on forget - the original's on validation| and the
    same for the true class's mean confidence; and the falls of accuracy on retained training and validation samples.
    """
    held = split.validation
    if split.forget_classes:
        gone = torch.isin(held.labels, torch.tensor(split.forget_classes))
        kept = held.take(~gone)
        seen = task.predict(model, split.forget).accuracy
        unseen = task.predict(model, held.take(gone)).accuracy if gone.any() else seen
        residue = [seen, unseen]
    else:
        kept = held
        now, before = task.predict(model, split.forget), task.predict(original, held)
        residue = [
            abs(now.accuracy - before.accuracy),
            100 * abs((now.confidence.mean() - before.confidence.mean()).item()),
        ]
    sets = [s for s in (split.retain, kept) if len(s)]
    lost = [max(0.0, task.predict(original, s).accuracy - task.predict(model, s).accuracy) for s in sets]
    return sum(residue + lost) / len(residue + lost)


def tune(
    model: nn.Module,
    split: Split,
    method: Method,
    task: Classification,
    *,
    count: int = 4,
    fixed: tuple[str, ...] = (),
    by: By = "validation",
    retrained: Judged | None = None,
    seed: int = 0,
    compute: Compute | None = None,
) -> list[Trial]:
    """The trials of a method on this original and split, best first. `by="gap"` needs `retrained` and is an oracle.

    `fixed` names fields that are not to be tuned. Raises `ExpungeError` without validation samples, or without
    `retrained` where the gap chooses.
    """
    if by == "gap" and retrained is None:
        raise ExpungeError(
            "by='gap' measures from the retrained model; give `retrained`, or choose by='validation'."
        )
    if by == "validation" and not len(split.validation):
        raise ExpungeError(
            "trials are chosen on validation samples and the split has none; draw it with a validation share, such as 0.1."
        )
    found = []
    for settings in trials(method, count, fixed):
        run = execute(model, split, replace(method, **settings), task, seed=seed, compute=compute)
        if by == "gap":
            assert retrained is not None  # checked above
            distance = gaps(judge(run.model, split, task, seed=seed).scores, retrained.scores)["avg"]
        else:
            distance = distance_from_unseen(run.model, model, split, task)
        found.append(Trial(settings, distance, run.status))
    return sorted(found, key=lambda t: t.distance)
