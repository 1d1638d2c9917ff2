"""Check that a classifier takes the inputs, and that its logits are sound."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ..data.batch import Inputs
from ..data.samples import Samples
from ..errors import ModelError
from ..torch_utils.finite import all_finite
from ..torch_utils.module_state import device_of, evaluating


def forward_problems(
    logits_of: Callable[[nn.Module, Inputs], Tensor], num_classes: int, model: nn.Module, samples: Samples
) -> list[str]:
    """Return the problems of the logits of two samples, one sentence each.

    Args:
        logits_of: `Classification.logits`.
        num_classes: Number of classes K.
        model: The model.
        samples: The samples to take two of.
    """
    few = samples.take(torch.arange(min(2, len(samples))))
    batch: Any = next(few.batches(2, device=device_of(model)))
    by_name = isinstance(batch.x, dict)
    shape = {k: tuple(v.shape) for k, v in batch.x.items()} if by_name else tuple(batch.x.shape)
    try:
        with evaluating(model), torch.inference_mode():
            logits = logits_of(model, batch.x)
    except ModelError as error:
        # an output without logits
        return error.problems
    except Exception as error:
        # a user's model may raise any error, which becomes the message
        problem = f"the model fails on a batch of shape {shape}: {type(error).__name__}: {error}"
        dtype = next(model.parameters()).dtype
        differ = isinstance(batch.x, Tensor) and batch.x.dtype != dtype
        # whole numbers may be tokens
        if differ and (batch.x.is_floating_point() or "type" in str(error)):
            problem += f"; the inputs are {batch.x.dtype}, the parameters {dtype}: convert one of them to the type of the other."
            return [problem]
        return [f"{problem.rstrip('.')}; {_remedy(model, batch.x)}"]
    expected = (len(batch), num_classes)
    if logits.shape != expected:
        return [
            f"the model returns outputs of shape {tuple(logits.shape)} for a batch of {len(batch)}; expected {expected}."
        ]
    if not logits.is_floating_point():
        return [f"the model returns outputs of {logits.dtype}; return logits, which are real numbers."]
    if not bool(all_finite(logits)):
        return [
            "the model's outputs on the retain set are not finite; check the scale of the inputs and the checkpoint."
        ]
    return []


def _remedy(model: nn.Module, x: Any) -> str:
    """Return what to do about inputs that a model fails on."""
    first = next((m for m in model.modules() if isinstance(m, nn.Conv2d)), None)
    if first is not None and isinstance(x, Tensor) and x.dim() == 4 and first.in_channels != x.shape[1]:
        wanted = first.in_channels
        how = f" (for folders and tables of images: the option channels={wanted})" if wanted in (1, 3) else ""
        return f"the images have {x.shape[1]} channels, and the first convolution takes {wanted}: give such images{how}."
    return "give inputs of the shape and kind that the model was trained on."
