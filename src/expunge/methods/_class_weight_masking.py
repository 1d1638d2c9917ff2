"""Class weight masking (CWM): remove classes from the head of a classifier for good (used by NHLE)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import nn

from ..data.samples import Samples
from ..errors import ModelError
from ..masks.mask_file import Mask
from ..tasks.classification import Classification

Masking = Literal["neg_inf", "zero", "none"]

# a logit so low that its class never wins, which half precision can hold
NEVER_PREDICTED = -1e4


@torch.no_grad()
def mask_class_weights(
    model: nn.Module,
    task: Classification,
    classes: Sequence[int],
    how: Masking = "neg_inf",
    samples: Samples | None = None,
) -> nn.Module:
    """Remove classes from the model's head, in place and for good.

    All other logits stay bit-identical. A second call changes nothing.

    Args:
        model: The classifier to change.
        task: Its task, which finds the head.
        classes: Numbers of the classes to remove.
        how: "neg_inf" sets the class's row of the head to 0 and its bias to -1e4. "zero" sets both to 0, so the class still
            wins where all other logits are negative. "none" changes nothing.
        samples: Samples for a forward pass that finds the head. Without them, the model must have one linear layer with a row
            for each class, or the task must name the head.

    Returns:
        `model`.

    Raises:
        ModelError: No class would be left, "neg_inf" finds no bias, or the head is unknown or computed from other parameters.

    Example:
        >>> mask_class_weights(model, Classification(num_classes=10), classes=[3])
    """
    if how == "none":
        return model
    if samples is not None:
        task = task.with_head(model, samples)
    name, head = task.open_head(model, *edited_parts(task, model), frozen=True)
    rows = sorted(set(classes))
    if len(rows) >= head.out_features:
        raise ModelError(
            f"masking {len(rows)} of {head.out_features} classes leaves none; keep at least one class."
        )
    check_bias((name, head), how)
    head.weight[rows] = 0
    if head.bias is not None:
        head.bias[rows] = NEVER_PREDICTED if how == "neg_inf" else 0.0
    return model


def check_bias(named_head: tuple[str, nn.Linear], how: Masking) -> None:
    """Raise `ModelError` if masking by `how` needs a bias that the head does not have."""
    name, head = named_head
    if how == "neg_inf" and head.bias is None:
        raise ModelError(
            f"the head '{name}' has no bias to lower; use masking='zero'. The class can then still win where all other logits "
            "are negative."
        )


def edited_parts(task: Classification, model: nn.Module) -> list[str]:
    """Return which parts of the head class weight masking writes to: "weight", and "bias" if there is one."""
    return ["weight"] if task.head(model)[1].bias is None else ["weight", "bias"]


def with_head_rows(mask: Mask, head: str, classes: Sequence[int]) -> Mask:
    """Return `mask` with the head's rows of `classes` free, so the recorded mask holds every weight that changed."""
    changed = {k: m.clone() for k, m in mask.items()}
    for part in ("weight", "bias"):
        if (name := f"{head}.{part}" if head else part) in changed:
            changed[name][sorted(set(classes))] = True
    return Mask(changed)
