"""Measure whether the bias of the head hides a class: the best shift of its logits, and three figures of the biases."""

from __future__ import annotations

import torch
from torch import Tensor

from ..tasks.predictions import PredictedSets, Predictions


def bias_correction(sets: PredictedSets, classes: list[int]) -> dict[str, float]:
    """Add one number to the logits of the forgotten classes and measure what this brings back.

    The number maximises the mean of forget and retain accuracy on training samples. If an edit of the head hid the
    class, the accuracy on unseen samples of the class is then close to the original's.

    Args:
        sets: Predictions of the model on the sets of the split, such as its evaluation.
        classes: The forgotten classes.

    Returns:
        "shift": the number. "forgotten" and "retained": accuracy on unseen samples of these classes after the shift,
        in percent. NaN without such samples.
    """
    class_index = torch.tensor(classes)
    # forget samples are correct from this shift on
    needed = _margins(sets.forget, class_index)
    # retain samples are correct below this shift
    allowed = -_margins(sets.retain, class_index)
    edges = torch.cat([needed, allowed]).unique()
    zero = torch.zeros(1, dtype=torch.float64)
    shifts = torch.cat([edges[:1] - 1, (edges[1:] + edges[:-1]) / 2, edges[-1:] + 1, zero])
    shifts = shifts[shifts.isfinite()]
    forget_accuracy = torch.searchsorted(needed.sort().values, shifts, right=True) / len(needed)
    retain_accuracy = 1 - torch.searchsorted(allowed.sort().values, shifts) / len(allowed)
    best = shifts[(forget_accuracy + retain_accuracy).argmax()]
    accuracy = {}
    for name, p in (("forgotten", sets.test_forgotten), ("retained", sets.test)):
        logits = p.logits.double().clone()
        logits[:, class_index] += best
        correct = (logits.argmax(1) == p.labels).double()
        accuracy[name] = 100 * correct.mean().item() if len(p.labels) else float("nan")
    return {"shift": float(best), **accuracy}


def _margins(p: Predictions, classes: Tensor) -> Tensor:
    """Return the shift from which samples of `classes` are correct, and minus the shift up to which others are.

    The value is infinite for samples that no shift makes correct.
    """
    z = p.logits.double()
    forgotten = torch.zeros(z.shape[1], dtype=torch.bool)
    forgotten[classes] = True
    inside, outside = z[:, forgotten], z[:, ~forgotten]
    gap = outside.max(1).values - inside.max(1).values
    is_forgotten = forgotten[p.labels]
    best_outside = (~forgotten).nonzero()[:, 0][outside.argmax(1)]
    winner = torch.where(is_forgotten, classes[inside.argmax(1)], best_outside)
    infinite = torch.tensor(torch.inf, dtype=torch.float64)
    return torch.where(winner == p.labels, torch.where(is_forgotten, gap, -gap), infinite)


def head_bias(bias: Tensor | None, classes: list[int]) -> dict[str, float] | None:
    """Return three figures of the biases of a head.

    BSC is 1 / (1 + |mean b_f - mean b_r|), MBG is sigmoid(median b_f - min b_r), and MBS is sigmoid(min b_f - min b_r).
    Here b_f are the biases of the forgotten classes and b_r those of the retained ones.

    Args:
        bias: Biases (K,) of the head, or None.
        classes: The forgotten classes.

    Returns:
        "BSC", "MBG" and "MBS", each in [0, 1]. None for a head without bias.

    Source: the papers of LB-HR and TS-BGRM; see their methods' docstrings.
    """
    if bias is None:
        return None
    b = bias.detach().double().cpu()
    forgotten = torch.isin(torch.arange(len(b)), torch.tensor(classes))
    f, r = b[forgotten], b[~forgotten]
    return {
        "BSC": float(1 / (1 + (f.mean() - r.mean()).abs())),
        "MBG": float(torch.sigmoid(f.median() - r.min())),
        "MBS": float(torch.sigmoid(f.min() - r.min())),
    }
