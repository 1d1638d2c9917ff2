"""How a model does on samples that it never saw, as an estimate of what forgetting should reach."""

from __future__ import annotations

import torch

from ..data.likeness import importance_weights, weighted_mean
from ..data.validation_source import NO_UNSEEN, REMEDY
from ..torch_utils.module_state import evaluating
from ..training.run import Run


def no_target(rules: str) -> str:
    """Return that rules are off because nothing says how a model treats samples that it never saw, and the remedy.

    Args:
        rules: The rules with their verb, such as "the stop rule is off".
    """
    return f"{NO_UNSEEN}, so {rules}: the method may forget too much or too little. To turn it on, {REMEDY}."


def unseen_accuracy(run: Run) -> float | None:
    """Return the accuracy in percent that forget samples should fall to.

    It is 0 for a forgotten class, else that of the model on unseen samples, which importance weights give the class
    distribution of the forget set. Without unseen samples it is None, and the run notes that the stop rule is off.
    """
    if run.split.forget_classes:
        return 0.0
    if not len(run.split.unseen):
        run.note(no_target("the stop rule is off"))
        return None
    with evaluating(run.model), torch.inference_mode():
        batches = run.split.unseen.batches(run.compute.eval_batch, device=run.device)
        scores = [run.task.sample_scores(run.model, batch) for batch in batches]
    return 100 * weighted_mean(torch.cat(scores), importance_weights(run.split))
