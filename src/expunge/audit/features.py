"""Audit features: does forgetting reach below the head?

One edited bias can keep a classifier from ever predicting a class (Sepahvand et al., and the null baseline
`bias_shift`). Everything that it knew of the class is then still in its features. Features of a model that never saw a
class also separate it from others. No figure is therefore good or bad by itself, and each stands beside Retrain's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..data.id_forms import as_text
from ..data.samples import Samples
from ..data.split import Split
from ..errors import ModelError
from ..tasks.classification import Classification
from ..tasks.predictions import Predictions
from .evaluation import Evaluation, evaluate
from .feature_measures import (
    cka,
    fewer_retained,
    member_probe,
    nearest_classes,
    probe_accuracy,
    scatter_ratio,
    total_variation,
    training_features,
)
from .head_bias import bias_correction, head_bias


def feature_audit(
    models: dict[str, nn.Module],
    split: Split,
    task: Classification,
    *,
    seed: int = 0,
    evaluations: Mapping[str, Evaluation] | None = None,
) -> dict[str, dict[str, Any]]:
    """Compute every feature measure of some models.

    Args:
        models: Models by name: "original", "unlearned", "retrained". Each may be missing.
        split: The split of the audit.
        task: The task of the models.
        seed: Seed of the choice of retain samples.
        evaluations: Evaluations of these models on the whole split. They save a pass.

    Returns:
        {measure: {model: figure}}. docs/audit.md explains each measure. Measures that do not apply are left out.

    Raises:
        ModelError: If a model has no linear head that takes one vector per sample.

    Example:
        >>> features = feature_audit({"unlearned": model, "retrained": retrained}, split, task)
        >>> features["probe_forgotten"]
        {'unlearned': 97.3, 'retrained': 93.7}
    """
    given = evaluations or {}
    of_model = {
        name: evaluate_features(m, split, task, seed=seed, evaluation=given.get(name))
        for name, m in models.items()
    }
    rows = {name: model_features(m, of_model[name], split, task) for name, m in models.items()}
    for name, row in rows.items():
        evaluation = of_model[name]
        for reference in ("original", "retrained"):
            if reference in of_model:
                other = of_model[reference].forget
                row[f"cka_{reference}"] = cka(_features(evaluation.forget), _features(other))
        if "retrained" in of_model:
            row["tv_retrained"] = total_variation(
                _forgotten_shares(evaluation), _forgotten_shares(of_model["retrained"])
            )
        test = evaluation.test
        row["worst_class_accuracy"] = min(
            100 * test.correct[test.labels == k].double().mean().item() for k in test.labels.unique()
        )
        if (group := worst_group(test, split.test)) is not None:
            row["worst_group"] = f"{group['column']} = {group['value']}"
            row["worst_group_accuracy"] = group["accuracy"]
    measures = {measure: None for row in rows.values() for measure in row}
    return {m: {name: row[m] for name, row in rows.items() if m in row} for m in measures}


def evaluate_features(
    model: nn.Module,
    split: Split,
    task: Classification,
    *,
    seed: int = 0,
    evaluation: Evaluation | None = None,
) -> Evaluation:
    """Evaluate a model with features, on at most 20,000 retain samples.

    Args:
        model: The model.
        split: The split of the audit.
        task: The task of the model.
        seed: Seed of the choice of retain samples.
        evaluation: An evaluation of the model on the whole split. If it has features, the model is not run again.

    Returns:
        An evaluation with features.

    Raises:
        ModelError: If the model has no linear head that takes one vector per sample.
    """
    if not task.has_head(model, split.retain):
        raise ModelError(
            "the model has no linear head that takes one vector per sample, so it has no features to audit; "
            "leave out 'features'."
        )
    if evaluation is None or evaluation.retain.features is None:
        smaller = replace(split, retain=split.retain.take(fewer_retained(len(split.retain), seed)))
        return evaluate(model, smaller, task, seed=seed)
    return with_fewer_retained(evaluation, seed)


def with_fewer_retained(evaluation: Evaluation, seed: int) -> Evaluation:
    """Return an evaluation with features on at most 20,000 retain samples, chosen by the seed."""
    at, split = fewer_retained(len(evaluation.retain.labels), seed), evaluation.split
    retain = Predictions(
        *(v[at] for v in (evaluation.retain.logits, evaluation.retain.labels, evaluation.retain.features))
    )
    return replace(evaluation, split=replace(split, retain=split.retain.take(at)), retain=retain)


def model_features(
    model: nn.Module, evaluation: Evaluation, split: Split, task: Classification
) -> dict[str, Any]:
    """Compute the feature measures of one model that need no other model.

    Args:
        model: The model, for the bias of its head.
        evaluation: Its evaluation with features.
        split: The split of the audit.
        task: The task of the model.

    Returns:
        {measure: figure}. Accuracies are in percent.
    """
    figures: dict[str, Any] = {}
    classes = list(split.forget_classes)
    if classes and len(evaluation.test_forgotten.labels):
        figures |= _class_features(evaluation, classes, task.num_classes)
        head = task.with_head(model, split.retain).head(model)[1]
        if biases := head_bias(head.bias, classes):
            figures |= biases
    unseen = evaluation.test_forgotten if classes else evaluation.test
    figures["member_probe"] = member_probe(_features(evaluation.forget), _features(unseen))
    shares = _forgotten_shares(evaluation)
    shares = shares[shares > 0]
    figures["redistribution_entropy"] = abs(float((shares * shares.log()).sum()))
    return figures


def _class_features(evaluation: Evaluation, classes: list[int], num_classes: int) -> dict[str, Any]:
    """Compute the measures that need unseen samples of the forgotten classes."""
    figures: dict[str, Any] = {}
    x, y = training_features(evaluation)
    for name, accuracy in probe_accuracy(evaluation).items():
        figures[f"probe_{name}"] = accuracy
        p = evaluation.test_forgotten if name == "forgotten" else evaluation.test
        figures[f"knn_{name}"] = _percent_correct(nearest_classes(x, y, _features(p), num_classes), p.labels)
    corrected = bias_correction(evaluation, classes)
    figures["bias_shift"] = corrected["shift"]
    figures["corrected_forgotten"] = corrected["forgotten"]
    figures["corrected_retained"] = corrected["retained"]
    tests = (evaluation.test, evaluation.test_forgotten)
    test_x, test_y = torch.cat([_features(p) for p in tests]), torch.cat([p.labels for p in tests])
    figures["scatter"] = scatter_ratio(test_x, test_y, classes)
    return figures


def _features(p: Predictions) -> Tensor:
    assert p.features is not None
    return p.features


def _percent_correct(predicted: Tensor, labels: Tensor) -> float:
    return 100 * (predicted == labels).double().mean().item()


def _forgotten_shares(evaluation: Evaluation) -> Tensor:
    """Return the distribution (K,) of predicted classes of forgotten samples. Prefer unseen samples."""
    unseen = evaluation.test_forgotten
    return (unseen if len(unseen.labels) else evaluation.forget).shares


def worst_group(p: Predictions, samples: Samples) -> dict[str, Any] | None:
    """Return the group with the lowest accuracy, over all group columns of the data.

    Args:
        p: Predictions on the samples.
        samples: The samples, for the groups of their data.

    Returns:
        "column", "value", "accuracy" in percent and "size" of the group. None for data without groups.
    """
    rows = []
    for column, values in samples.data.groups.items():
        texts = as_text(values[samples.index.numpy()])
        for value in np.unique(texts):
            in_group = torch.from_numpy(texts == value)
            accuracy = 100 * p.correct[in_group].double().mean().item()
            rows.append(
                {"column": column, "value": str(value), "accuracy": accuracy, "size": int(in_group.sum())}
            )
    return min(rows, key=lambda r: r["accuracy"]) if rows else None
