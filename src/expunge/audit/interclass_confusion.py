"""The interclass-confusion test: can a method take back what mislabelled samples taught?

This tests a method with its settings, not one model.

Source: Goel et al., arXiv:2201.06640.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from ..data.relabel import relabelled
from ..data.samples import Samples
from ..data.split import Split
from ..errors import ExpungeError, raise_all
from ..methods.retrain import Retrain
from ..tasks.classification import Classification
from ..training.execute import execute
from ..training.method import Method
from .stacked_training import train_stacked


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
    """Run the interclass-confusion test on a method.

    The test exchanges the labels of some samples of two classes. It trains one model with these samples and one without
    them. The method then unlearns the samples from the first model. The residue is what exceeds Retrain's figures.

    Args:
        model: The audited model. It chooses the pair.
        split: The split of the audit.
        task: The task of the model.
        method: The method under test, with its settings.
        recipe: The training recipe of both models.
        pair: The two classes. By default, the two retained classes that `model` confuses most.
        count: Number of samples with exchanged labels. 0 takes a third of the samples of the two classes.
        seed: Seed of everything random.
        fresh: Makes a model with fresh parameters from a seed.

    Returns:
        "pair" and "count", and for "original", "unlearned" and "retrained" a dictionary in percent. "test": test samples
        of the two classes that the model takes for the other class. "forget": mislabelled samples that the model still
        gives the wrong label. "test_accuracy": accuracy on the test set.

    Raises:
        ExpungeError: As `confuse` does.

    Source: Goel et al., arXiv:2201.06640.
    """
    pair = pair or _most_confused(model, split, task)
    in_pair = torch.isin(split.train.labels, torch.tensor(pair)).double()
    count = count or round(float(in_pair.sum()) / 3)
    confused = confuse(split, pair, count, seed)

    def trained(samples: Samples, seed: int) -> nn.Module:
        return train_stacked([fresh(seed)], [samples], recipe, task, [seed], vectorised=False)[0]

    original, retrained = trained(confused.train, seed), trained(confused.retain, seed + 1)
    unlearned = execute(original, confused, method, task, seed=seed).model
    result: dict[str, Any] = {"pair": list(pair), "count": count}
    for name, which in (("original", original), ("unlearned", unlearned), ("retrained", retrained)):
        result[name] = {
            "test": confusion(which, confused.test, pair, task),
            "forget": task.predict(which, confused.forget).accuracy,
            "test_accuracy": task.predict(which, confused.test).accuracy,
        }
    return result


def confuse(split: Split, pair: tuple[int, int], count: int, seed: int = 0) -> Split:
    """Exchange the labels of some samples of two classes, and make these samples the forget set.

    Args:
        split: The split to change. It stays as it is.
        pair: The two classes.
        count: Number of samples with exchanged labels. Each class gives half of them.
        seed: Seed of the choice.

    Returns:
        A split whose retain set is the rest of the training set.

    Raises:
        ExpungeError: If a class has too few training samples, or no test samples.

    Source: Goel et al., arXiv:2201.06640.
    """
    train = split.train
    generator = torch.Generator().manual_seed(seed)
    chosen, problems = [], []
    for k, size in zip(pair, (count - count // 2, count // 2), strict=True):
        of_class = train.index[train.labels == k]
        if size >= len(of_class) or not (split.test.labels == k).any():
            problems.append(
                f"class {k} has {len(of_class)} training samples; choose classes with test samples, and fewer than "
                f"{len(of_class)} samples of this one."
            )
        chosen.append(of_class[torch.randperm(len(of_class), generator=generator)[:size]])
    raise_all(problems, ExpungeError)
    mislabelled = torch.cat(chosen).sort().values
    labels = train.data.labels.clone()
    labels[mislabelled] = pair[0] + pair[1] - labels[mislabelled]
    data = relabelled(train.data, labels, train.data.classes)
    return replace(
        split,
        forget=Samples(data, mislabelled),
        retain=Samples(data, train.index[~torch.isin(train.index, mislabelled)]),
        withheld=Samples(data, torch.empty(0, dtype=torch.int64)),
        validation=split.validation if split.validation_from_test else Samples(data, split.validation.index),
        scenario="ids",
        goal="untrain",
        forget_classes=(),
        spec={"scenario": "interclass confusion", "pair": list(pair), "count": count, "seed": seed},
    )


def confusion(model: nn.Module, samples: Samples, pair: tuple[int, int], task: Classification) -> float:
    """Return the percentage of the samples of two classes that the model takes for the other class.

    Args:
        model: The model.
        samples: Samples with their true labels.
        pair: The two classes.
        task: The task of the model.

    Returns:
        Percentage, 0 to 100.
    """
    predictions = task.predict(model, samples.take(torch.isin(samples.labels, torch.tensor(pair))))
    return 100 * (predictions.logits.argmax(1) == sum(pair) - predictions.labels).double().mean().item()


def _most_confused(model: nn.Module, split: Split, task: Classification) -> tuple[int, int]:
    """Return the two retained classes with the highest mean probability of each other on test samples."""
    p = task.predict(model, split.test)
    present = sorted(set(p.labels.tolist()) - set(split.forget_classes))
    mean = torch.stack([p.probabilities[p.labels == k].mean(0) for k in present])[:, present]
    both = (mean + mean.T).fill_diagonal_(-1)
    at = int(both.argmax())
    return present[at // len(present)], present[at % len(present)]
