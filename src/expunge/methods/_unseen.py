"""How a model does on samples that it never saw, as an estimate of what forgetting should reach."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from ..data.likeness import importance_weights, weighted_mean
from ..data.split import Split
from ..data.validation_source import NO_UNSEEN, REMEDY
from ..torch_utils.module_state import evaluating
from ..training.run import Run


def no_target(rules: str) -> str:
    """Return that rules are off because nothing says how a model treats samples that it never saw, and the remedy.

    Args:
        rules: The rules with their verb, such as "the stop rule is off".
    """
    return f"{NO_UNSEEN}, so {rules}: the method may forget too much or too little. To turn it on, {REMEDY}."


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


def unseen_weights(split: Split) -> Tensor:
    """Return the weights (N,) of `split.unseen` for the forget samples whose classes are retained. Removed classes get 0."""
    removed = of_removed_classes(split)
    if not removed.any():
        return importance_weights(split)
    weights = importance_weights(replace(split, forget=split.forget.take(~removed)))
    kept = ~torch.isin(split.unseen.labels, torch.tensor(split.forget_classes))
    # without unseen samples of the classes, all others are the best estimate
    return weights * kept if (weights * kept).any() else kept.double()


def unseen_accuracy(run: Run) -> float | None:
    """Return the accuracy in percent that forget samples should fall to.

    It is 0 for samples of removed classes. For the others it is that of the model on unseen samples, which importance weights
    give the class distribution of these forget samples. A forget set with both gets the mean over its samples. Without
    unseen samples of retained classes it is None, and the run notes that the stop rule is off.
    """
    split = run.split
    if removes_classes_only(split):
        return 0.0
    weights = unseen_weights(split)
    if not weights.any():
        run.note(no_target("the stop rule is off"))
        return None
    with evaluating(run.model), torch.inference_mode():
        batches = split.unseen.batches(run.compute.eval_batch, device=run.device)
        scores = [run.task.sample_scores(run.model, batch) for batch in batches]
    retained = 1 - of_removed_classes(split).double().mean().item()
    return 100 * retained * weighted_mean(torch.cat(scores), weights)
