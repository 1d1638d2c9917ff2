"""Take the gradient of a loss inside a step, change it, and give it back as the gradient of that step.

With several pieces of a batch (`accumulate`, `processes`), each piece changes its own gradient.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ..data.samples import Samples
from ..masks.per_sample_gradients import NamedTensors, to_full_precision
from ..tasks.task import Task
from ..torch_utils.module_state import device_of, evaluating
from ..training.run import Run


def free_gradients(run: Run, loss: Tensor, model: nn.Module | None = None) -> NamedTensors:
    """Return the gradient of a loss by parameter name, 0 outside the mask of the run.

    Args:
        run: The run.
        loss: The loss, a scalar.
        model: The model whose parameters are differentiated; None for that of the run.
    """
    parameters = {n: p for n, p in (model or run.model).named_parameters() if p.requires_grad}
    gradients = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
    named = {}
    for (name, parameter), gradient in zip(parameters.items(), gradients, strict=True):
        gradient = torch.zeros_like(parameter) if gradient is None else gradient
        if run.mask is not None:
            gradient = gradient * run.mask[name].to(gradient.device)
        named[name] = gradient
    return named


def with_gradients(run: Run, loss: Tensor, gradients: Mapping[str, Tensor]) -> Tensor:
    """Return a scalar with the value of `loss` and the given gradients.

    Args:
        run: The run.
        loss: The loss whose value is reported.
        gradients: {parameter name: gradient}. Parameters without an entry get none.
    """
    parameters = dict(run.model.named_parameters())
    linear = [(g * (parameters[n] - parameters[n].detach())).sum() for n, g in gradients.items()]
    return loss.detach() + torch.stack([term.to(loss.dtype) for term in linear]).sum()


def inner_product(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> Tensor:
    """Return the inner product of two sets of named tensors."""
    return torch.stack([(to_full_precision(one[n]) * to_full_precision(other[n])).sum() for n in one]).sum()


def squared_batch_gradients(
    model: nn.Module, task: Task, samples: Samples, batch_size: int, power: float = 2.0
) -> NamedTensors:
    """Return the mean over batches of |gradient of the batch's mean loss|^power, by parameter name, in eval mode.

    Released codes do this where their papers mean single samples, so the result depends on the batches.
    """
    parameters = {n: p for n, p in model.named_parameters() if p.requires_grad}
    total = {n: to_full_precision(torch.zeros_like(p)) for n, p in parameters.items()}
    count = 0
    with evaluating(model):
        for batch in samples.batches(batch_size, device=device_of(model)):
            loss = task.loss(model, batch).mean()
            gradients = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
            for name, gradient in zip(parameters, gradients, strict=True):
                if gradient is not None:
                    total[name] += to_full_precision(gradient).abs().pow(power)
            count += 1
    return {n: t / max(1, count) for n, t in total.items()}
