"""Score how much each parameter matters for the loss on some samples. Saliency masks are made from these scores."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

from ..data.samples import Samples
from ..tasks.task import Task
from ..torch_utils.gradients import with_gradients
from ..torch_utils.module_state import device_of, evaluating, seeded
from .per_sample_gradients import (
    fisher_diagonal,
    gradient_batches,
    per_sample_gradients,
    to_full_precision,
    trainable_parameters,
)

Saliency = Literal["abs_sum", "sum_abs", "fisher"]


@with_gradients
def saliency_scores(
    model: nn.Module,
    samples: Samples,
    task: Task,
    *,
    batch_size: int = 256,
    augment: bool = False,
    seed: int = 0,
    how: Saliency = "abs_sum",
    paper_exact: bool = False,
    reduce: Callable[[Tensor], Tensor] | None = None,
) -> dict[str, Tensor]:
    """Return the saliency of every trainable parameter: |gradient of the mean loss over `samples`| by default.

    The model is in eval mode meanwhile and is left unchanged. Every sample has the same weight, so the scores do not depend on
    the batch size. The exception is `paper_exact`.

    Args:
        model: The model, usually the original one.
        samples: The samples whose loss is taken, usually the forget set.
        task: The task of the model.
        batch_size: Number of samples per batch.
        augment: Augment the samples.
        seed: Seed of augmentation, shuffling and dropout-like layers.
        how: "abs_sum" takes the magnitude of the mean gradient. "sum_abs" takes the mean of the samples' |gradient|, so
            signs cannot cancel. "fisher" takes the mean of their squared gradients. The last two compute gradients sample by
            sample, for small models, and do not augment.
        paper_exact: Average the mean gradients of shuffled, augmented batches, as the released code of SalUn does. A short
            last batch then has a larger weight per sample.
        reduce: Turns a mean over these samples into the mean over the samples of all processes of a distributed run.

    Returns:
        {parameter name: scores of its shape}, in float32 or wider.
    """
    if how != "abs_sum":
        with seeded(seed, device_of(model)):
            means = _sample_by_sample(model, samples, task, how)
        return {n: t if reduce is None else reduce(t) for n, t in means.items()}
    parameters = {n: p for n, p in model.named_parameters() if p.requires_grad}
    total = {n: _zeros(p) for n, p in parameters.items()}
    half = any(p.itemsize < 4 for p in parameters.values())
    generator = torch.Generator().manual_seed(seed)
    batches = -(-len(samples) // batch_size)
    with evaluating(model), seeded(seed, device_of(model)):
        for batch in samples.batches(
            batch_size,
            device=device_of(model),
            shuffle=generator if paper_exact else None,
            augment=generator if paper_exact or augment else None,
        ):
            losses = task.loss(model, batch)
            loss, count = (losses.mean(), batches) if paper_exact else (losses.sum(), len(samples))
            # Divide gradients of half precision after they are widened: before, most would round to 0.
            loss, factor = (loss, 1 / count) if half else (loss / count, 1.0)
            gradients = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
            for scores, gradient in zip(total.values(), gradients, strict=True):
                if gradient is not None:
                    scores.add_(gradient, alpha=factor)
    return {n: (t if reduce is None else reduce(t)).abs_() for n, t in total.items()}


def _zeros(parameter: Tensor) -> Tensor:
    # in row-major order for every parameter, so that the selection reads the scores without a copy
    dtype = torch.promote_types(parameter.dtype, torch.float32)
    return torch.zeros(parameter.shape, dtype=dtype, device=parameter.device)


def _sample_by_sample(model: nn.Module, samples: Samples, task: Task, how: Saliency) -> dict[str, Tensor]:
    if how == "fisher":
        return fisher_diagonal(model, task, samples)
    total = {n: _zeros(p) for n, p in trainable_parameters(model).items()}
    for batch in gradient_batches(model, samples):
        for n, gradients in per_sample_gradients(model, task, batch).items():
            total[n] += to_full_precision(gradients).abs().sum(0) / len(samples)
    return total
