"""How a model does on samples that it never saw, as an estimate of what forgetting should reach."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import torch
from torch import Tensor

from ..data.likeness import (
    FEW,
    Target,
    few_text,
    of_removed_classes,
    removes_classes_only,
    retained_likeness,
    weighted_mean,
)
from ..data.validation_source import NO_UNSEEN, REMEDY
from ..torch_utils.module_state import evaluating
from ..training.run import Row, Run

# where the run keeps the target as plain values, which its resumable state can hold
KEY = "stop_target"


def no_target(rules: str) -> str:
    """Return that rules are off because nothing says how a model treats samples that it never saw, and the remedy.

    Args:
        rules: The rules, such as "the stop rule" or "the gate and the stop rule".
    """
    verb, them = ("are", "them") if " and " in rules else ("is", "it")
    return f"{NO_UNSEEN}, so {rules} {verb} off: the method may forget too much or too little. To turn {them} on, {REMEDY}."


def measure_unseen(run: Run, rules: str) -> float | None:
    """Keep the accuracy that forget samples should fall to, for `stop_reason` and `target_details`.

    It is 0 for samples of removed classes. For the others it is that of the model on unseen samples, which importance weights
    give the class distribution of these forget samples. A forget set with both gets the mean over its samples. The run notes
    if few samples are behind it, or none.

    Args:
        run: The run before its first step.
        rules: The rules that are off without unseen samples; "" for none.

    Returns:
        The mean confidence in the true class of these unseen samples; None if no forget sample needs them, or there are none.
    """
    split = run.split
    if removes_classes_only(split):
        keep_target(run, Target(0.0))
        return None
    alike = retained_likeness(split)
    if not alike.weights.any():
        if rules:
            run.note(no_target(rules))
        return None
    correct: list[Tensor] = []
    confidence: list[Tensor] = []
    with evaluating(run.model), torch.inference_mode():
        for batch in split.unseen.batches(run.compute.eval_batch, device=run.device):
            confidence.append((-run.task.loss(run.model, batch)).exp())
            correct.append(run.task.sample_scores(run.model, batch))
    target = Target.of(torch.cat(correct), alike)
    retained = 1 - of_removed_classes(split).double().mean().item()
    keep_target(run, replace(target, percent=retained * target.percent, error=retained * target.error))
    return weighted_mean(torch.cat(confidence), alike.weights)


def keep_target(run: Run, target: Target) -> None:
    """Remember at what forget accuracy the run stops, and note it if few samples are behind it."""
    run.memo[KEY] = asdict(target)
    if target.samples is not None and target.samples < FEW:
        run.note(few_text(target.samples))


def stop_reason(run: Run, row: Row) -> str | None:
    """Return why a run ends whose forget accuracy has reached that of unseen samples; None for a run that goes on."""
    if KEY not in run.memo or row["forget"] is None:
        return None
    target = Target(**run.memo[KEY])
    if row["forget"] > target.percent:
        return None
    return f"forget accuracy {row['forget']:.1f} reached that of unseen samples, {target}"


def target_details(run: Run) -> dict[str, Any]:
    """Return the target of the stop rule for the record: percent, standard error in points, number of comparable samples."""
    return {KEY: run.memo[KEY]} if KEY in run.memo else {}
