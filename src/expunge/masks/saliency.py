"""How much each weight matters for the loss on some samples: what saliency masks are made from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

from ..data.samples import Samples
from ..tasks.task import Task
from ..torch_utils.module_state import device_of, evaluating, seeded
from .per_sample_gradients import chunks, fisher_diagonal, per_sample_gradients, trainable, wide

Saliency = Literal["abs_sum", "sum_abs", "fisher"]


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
    """|gradient of the mean loss over `samples`| for every trainable parameter, the model in eval mode and left
    as it was.

    Every sample weighs the same, so the result does not depend on the batch size. `how` "sum_abs" is the mean of
    the samples' |gradient| instead (signs cannot cancel), "fisher" that of their squared gradients; both take
    gradients sample by sample, for small models, and neither augments. `paper_exact` averages the means of shuffled, augmented batches
    as the released code of SalUn does (a short last batch then weighs more). `reduce` makes of the mean over
    these samples the mean over those of all processes of a distributed run.
    """
    if how != "abs_sum":
        with seeded(seed, device_of(model)):
            means = _sample_by_sample(model, samples, task, how)
        return {n: t if reduce is None else reduce(t) for n, t in means.items()}
    weights = {n: p for n, p in model.named_parameters() if p.requires_grad}
    total = {n: _zeros(p) for n, p in weights.items()}
    half = any(p.itemsize < 4 for p in weights.values())
    draw = torch.Generator().manual_seed(seed)
    steps = -(-len(samples) // batch_size)
    with evaluating(model), seeded(seed, device_of(model)):
        for batch in samples.batches(
            batch_size,
            device=device_of(model),
            shuffle=draw if paper_exact else None,
            augment=draw if paper_exact or augment else None,
        ):
            losses = task.loss(model, batch)
            loss, parts = (losses.mean(), steps) if paper_exact else (losses.sum(), len(samples))
            # gradients of half precision are divided when they are wide: before, most would round to 0
            loss, share = (loss, 1 / parts) if half else (loss / parts, 1.0)
            found = torch.autograd.grad(loss, list(weights.values()), allow_unused=True)
            for into, grad in zip(total.values(), found, strict=True):
                if grad is not None:
                    into.add_(grad, alpha=share)
    return {n: (t if reduce is None else reduce(t)).abs_() for n, t in total.items()}


def _zeros(weight: Tensor) -> Tensor:
    # in row-major order whatever the weight's: the selection then reads it without a copy
    dtype = torch.promote_types(weight.dtype, torch.float32)
    return torch.zeros(weight.shape, dtype=dtype, device=weight.device)


def _sample_by_sample(model: nn.Module, samples: Samples, task: Task, how: Saliency) -> dict[str, Tensor]:
    if how == "fisher":
        return fisher_diagonal(model, task, samples)
    total = {n: _zeros(p) for n, p in trainable(model).items()}
    for batch in chunks(model, samples):
        for n, g in per_sample_gradients(model, task, batch).items():
            total[n] += wide(g).abs().sum(0) / len(samples)
    return total
