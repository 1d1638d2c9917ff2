"""Check what a task returns on two samples, before anything is trained."""

from __future__ import annotations

import warnings
from typing import Any

from torch import Tensor, nn

from ..errors import ModelError


def output_problems(task: Any, model: nn.Module, batch: Any, *, own_confidence: bool) -> list[str]:
    """Return what is wrong with loss and scores of a task on a batch, one sentence each.

    Args:
        task: The task.
        model: A model of the task, in eval mode.
        batch: Two samples of the retain set.
        own_confidence: Whether the task computes confidences itself, so that its loss may be negative.
    """
    try:
        losses = task.loss(model, batch)
    except Exception as error:  # whatever a user's model raises is the message
        return [f"the loss of the task {task.name} fails on two samples: {type(error).__name__}: {error}"]
    if (problems := _loss_problems(task, losses, len(batch))) or "scores" not in task.offers:
        return problems
    if not own_confidence and bool((losses < 0).any()):
        warnings.warn(f"{_negative(task, losses)}. The audit will refuse it.", RuntimeWarning, stacklevel=5)
    try:
        scores = task.sample_scores(model, batch)
    except Exception as error:
        return [
            f"sample_scores of the task {task.name} fails on two samples: {type(error).__name__}: {error}"
        ]
    return score_problems(task, scores, len(batch), finite=True)


def _loss_problems(task: Any, losses: Any, count: int) -> list[str]:
    if not isinstance(losses, Tensor):
        return [
            f"the loss of the task {task.name} is a {type(losses).__name__}; return one loss a sample, a tensor of shape ({count},)."
        ]
    if losses.shape != (count,):
        return [
            f"the loss of the task {task.name} has shape {tuple(losses.shape)} for {count} samples; return one loss a "
            f"sample, shape ({count},)."
        ]
    if not losses.isfinite().all():
        return [
            "the model's loss on the retain set is not finite; check the checkpoint and the scale of the inputs."
        ]
    return []


def score_problems(task: Any, scores: Any, count: int, *, finite: bool = False) -> list[str]:
    """Return what is wrong with the scores of `count` samples, one sentence each. NaN is allowed unless `finite` is set."""
    user = f"sample_scores of the task {task.name}"
    if not isinstance(scores, Tensor):
        return [
            f"{user} returned a {type(scores).__name__}; return one score a sample, a tensor of shape ({count},)."
        ]
    if scores.shape != (count,):
        return [
            f"{user} has shape {tuple(scores.shape)} for {count} samples; return one score a sample, shape ({count},)."
        ]
    if finite and not scores.isfinite().all():
        return [f"{user} is not finite where the loss is; return numbers from 0 (wrong) to 1 (right)."]
    if bool(((scores < -1e-6) | (scores > 1 + 1e-6)).any()):
        low, high = float(scores.min()), float(scores.max())
        return [f"{user} goes from {low:.3g} to {high:.3g}; return numbers from 0 (wrong) to 1 (right)."]
    return []


def confidence_of(task: Any, losses: Tensor) -> Tensor:
    """Return exp(-loss) (B,). Raises `ModelError` for a negative loss, which gives no confidence."""
    if bool((losses < -1e-6).any()):
        raise ModelError(f"{_negative(task, losses)}.")
    return (-losses).exp().double().cpu()


def _negative(task: Any, losses: Tensor) -> str:
    return (
        f"the loss of the task {task.name} is negative (lowest: {float(losses.min()):.3g}), so exp(-loss) is no confidence from 0 "
        "to 1; add a constant to the loss, or write evaluate, which returns SampleScores with confidences"
    )
