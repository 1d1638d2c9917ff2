"""The interclass-confusion test of a method: can it take back what mislabelled samples taught? (Goel et
al., arXiv:2201.06640)
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from ..data.samples import Data, Samples
from ..data.split import Split
from ..data.tensors import TensorData
from ..errors import ExpungeError, raise_all
from ..methods.retrain import Retrain
from ..tasks.classification import Classification
from ..training.execute import execute
from ..training.method import Method
from .together import train_together


def confuse(split: Split, pair: tuple[int, int], count: int, seed: int = 0) -> Split:
    """The split whose forget set are `count` samples of two classes with their labels exchanged; the rest
    is retained.

    Goel et al., arXiv:2201.06640. Raises `ExpungeError` where the classes are too small.
    """
    train = split.train
    draw = torch.Generator().manual_seed(seed)
    picked, problems = [], []
    for k, size in zip(pair, (count - count // 2, count // 2), strict=True):
        there = train.index[train.labels == k]
        if size >= len(there) or not (split.test.labels == k).any():
            problems.append(
                f"class {k} has {len(there)} training samples; take fewer than that, of classes that are in the test set."
            )
        picked.append(there[torch.randperm(len(there), generator=draw)[:size]])
    raise_all(problems, ExpungeError)
    wrong = torch.cat(picked).sort().values
    labels = train.data.labels.clone()
    labels[wrong] = pair[0] + pair[1] - labels[wrong]
    data = _relabelled(train.data, labels)
    rest = train.index[~torch.isin(train.index, wrong)]
    nothing = torch.empty(0, dtype=torch.int64)
    return replace(
        split,
        forget=Samples(data, wrong),
        retain=Samples(data, rest),
        withheld=Samples(data, nothing),
        validation=Samples(data, split.validation.index),
        scenario="ids",
        goal="untrain",
        forget_classes=(),
        spec={"scenario": "interclass confusion", "pair": list(pair), "count": count, "seed": seed},
    )


def _relabelled(data: Data, labels: Tensor) -> Data:
    other = copy.copy(data)
    other.labels = labels
    if isinstance(other, TensorData):
        other._on_device, other._fingerprint = {}, None
    return other


def confusion(model: nn.Module, samples: Samples, pair: tuple[int, int], task: Classification) -> float:
    """Percent of the samples of two classes (by their true labels) that are taken for the other one."""
    found = task.predict(model, samples.take(torch.isin(samples.labels, torch.tensor(pair))))
    return 100 * (found.logits.argmax(1) == sum(pair) - found.labels).double().mean().item()


def interclass_confusion(
    model: nn.Module,
    split: Split,
    task: Classification,
    method: Method,
    recipe: Retrain,
    *,
    pair: tuple[int, int] | None = None,
    count: int = 0,
    seed: int = 0,
    fresh: Callable[[int], nn.Module],
) -> dict[str, Any]:
    """The interclass-confusion test of a method: two models are trained, one with exchanged labels of two
    classes in its data, one without those samples; the first unlearns them. `test`: percent of test samples
    of the two classes taken for the other; `forget`: percent of the mislabelled samples still given the
    wrong label. Residue is what exceeds Retrain's.

    The pair, if not given, are the two retained classes `model` mistakes most for each other; `count` is by
    default a third of their samples.
    """
    pair = pair or _most_confused(model, split, task)
    count = count or round(float(torch.isin(split.train.labels, torch.tensor(pair)).double().sum()) / 3)
    drawn = confuse(split, pair, count, seed)
    original = train_together([fresh(seed)], [drawn.train], recipe, task, [seed], vectorised=False)[0]
    retrained = train_together([fresh(seed + 1)], [drawn.retain], recipe, task, [seed + 1], vectorised=False)[
        0
    ]
    after = execute(original, drawn, method, task, seed=seed).model
    found: dict[str, Any] = {"pair": list(pair), "count": count}
    for name, which in (("original", original), ("unlearned", after), ("retrained", retrained)):
        found[name] = {
            "test": confusion(which, drawn.test, pair, task),
            "forget": task.predict(which, drawn.forget).accuracy,
            "test_accuracy": task.predict(which, drawn.test).accuracy,
        }
    return found


def _most_confused(model: nn.Module, split: Split, task: Classification) -> tuple[int, int]:
    p = task.predict(model, split.test)
    present = sorted(set(p.labels.tolist()) - set(split.forget_classes))
    mean = torch.stack([p.probabilities[p.labels == k].mean(0) for k in present])[:, present]  # (C, C)
    both = (mean + mean.T).fill_diagonal_(-1)
    at = int(both.argmax())
    return present[at // len(present)], present[at % len(present)]
