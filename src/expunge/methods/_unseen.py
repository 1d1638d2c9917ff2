"""How a model does on samples that it never saw, as an estimate of what forgetting should reach."""

from __future__ import annotations

import torch

from ..data.likeness import importance_weights, weighted_mean
from ..torch_utils.module_state import evaluating
from ..training.run import Run


def unseen_accuracy(run: Run) -> float | None:
    """Return the accuracy in percent that forget samples should fall to.

    It is 0 for a forgotten class, else that of the model on unseen samples, which importance weights give the class
    distribution of the forget set. None if there are no unseen samples.
    """
    if run.split.forget_classes:
        return 0.0
    if not len(run.split.unseen):
        return None
    with evaluating(run.model), torch.inference_mode():
        batches = run.split.unseen.batches(run.compute.eval_batch, device=run.device)
        scores = [run.task.sample_scores(run.model, batch) for batch in batches]
    return 100 * weighted_mean(torch.cat(scores), importance_weights(run.split))
