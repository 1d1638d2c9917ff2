"""Compute gradients sample by sample, and their means and squares for influence and importance methods.

`torch.func` computes the gradients of a batch at once. A model that it cannot transform is handled sample by sample, with the
same result. The model is in eval mode throughout, because the gradient of a sample must not depend on its batch.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from ..data.batch import Batch, Inputs
from ..data.samples import Samples
from ..tasks.task import Task
from ..torch_utils.module_state import device_of, evaluating

NamedTensors = dict[str, Tensor]

# Elements held at once (samples of a batch times parameters), on a CPU and at most on a GPU. A GPU is idle with small batches.
MAX_ELEMENTS = 2**26
MAX_ELEMENTS_GPU = 2**30


def trainable_parameters(model: nn.Module) -> NamedTensors:
    """Return the parameters that require a gradient, by name, detached."""
    return {n: p.detach() for n, p in model.named_parameters() if p.requires_grad}


def to_full_precision(values: Tensor) -> Tensor:
    """Return half precision as float32, and other tensors unchanged.

    In float32, sums and squares of gradients neither vanish nor lose digits.
    """
    return values.float() if values.itemsize < 4 else values


def per_sample_gradients(model: nn.Module, task: Task, batch: Batch, y: Tensor | None = None) -> NamedTensors:
    """Return the gradients {name: (B, *shape)} of each sample's loss.

    Args:
        model: The model.
        task: Its task.
        batch: The samples (B).
        y: Labels (B,) to use instead of the batch's own.
    """
    labels = batch.y if y is None else y
    parameters, constants = trainable_parameters(model), constants_of(model)

    def loss(w: NamedTensors, x: Inputs, label: Tensor) -> Tensor:
        one = {k: v[None] for k, v in x.items()} if isinstance(x, dict) else x[None]
        return task.loss(with_tensors(model, {**constants, **w}), Batch(one, label[None], batch.index[:1]))[0]

    with evaluating(model):
        try:
            return vmap(grad(loss), in_dims=(None, 0, 0), randomness="different")(parameters, batch.x, labels)
        except RuntimeError:
            # an operation without a batching rule
            return _one_by_one(model, task, batch, labels)


def _one_by_one(model: nn.Module, task: Task, batch: Batch, labels: Tensor) -> NamedTensors:
    parameters = {n: p for n, p in model.named_parameters() if p.requires_grad}
    rows: list[tuple[Tensor, ...]] = []
    for i in range(len(batch)):
        one = batch.take(torch.tensor([i]))
        loss = task.loss(model, Batch(one.x, labels[i : i + 1], one.index)).sum()
        gradients = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
        pairs = zip(gradients, parameters.values(), strict=True)
        rows.append(tuple(torch.zeros_like(p) if g is None else g for g, p in pairs))
    return {n: torch.stack([row[k] for row in rows]) for k, n in enumerate(parameters)}


def gradient_batches(model: nn.Module, samples: Samples, max_size: int = 256) -> Iterator[Batch]:
    """Return batches of all samples in order, each as large as memory for its per-sample gradients allows.

    Args:
        model: The model.
        samples: The samples.
        max_size: Maximum number of samples per batch.
    """
    device = device_of(model)
    elements = MAX_ELEMENTS
    if device.type == "cuda":
        # a sixteenth of the free memory, which intermediate gradients and other processes need too
        elements = min(MAX_ELEMENTS_GPU, max(MAX_ELEMENTS, torch.cuda.mem_get_info(device)[0] // 64))
    parameters = sum(p.numel() for p in trainable_parameters(model).values())
    return samples.batches(max(1, min(max_size, elements // max(1, parameters))), device=device)


def mean_gradient(model: nn.Module, task: Task, samples: Samples, batch_size: int = 256) -> NamedTensors:
    """Return the mean of the gradients of all samples, each with the same weight."""
    parameters = {n: p for n, p in model.named_parameters() if p.requires_grad}
    total = {n: to_full_precision(torch.zeros_like(p)) for n, p in parameters.items()}
    with evaluating(model):
        for batch in samples.batches(batch_size, device=device_of(model)):
            losses = task.loss(model, batch)
            gradients = torch.autograd.grad(losses.sum(), list(parameters.values()), allow_unused=True)
            for n, gradient in zip(parameters, gradients, strict=True):
                if gradient is not None:
                    total[n] += to_full_precision(gradient) / len(samples)
    return total


def fisher_diagonal(
    model: nn.Module, task: Task, samples: Samples, *, expected: bool = False
) -> NamedTensors:
    """Return the diagonal of the Fisher information: the mean over samples of their squared gradients.

    Args:
        model: The model.
        task: Its task.
        samples: The samples.
        expected: Take all labels, each weighted by its probability under the model (classifiers only). Default: the labels of
            the samples, which gives the empirical Fisher information.
    """
    total = {n: to_full_precision(torch.zeros_like(p)) for n, p in trainable_parameters(model).items()}
    for batch in gradient_batches(model, samples):
        if not expected:
            for n, gradients in per_sample_gradients(model, task, batch).items():
                total[n] += to_full_precision(gradients).square().sum(0) / len(samples)
            continue
        with evaluating(model), torch.no_grad():
            p = task.logits(model, batch.x).softmax(1)  # type: ignore[attr-defined]  # (B, K)
        for k in range(p.shape[1]):
            by_name = per_sample_gradients(model, task, batch, torch.full_like(batch.y, k))
            for n, gradients in by_name.items():
                squares = to_full_precision(gradients).square()
                total[n] += torch.einsum("b,b...->...", p[:, k].to(total[n]), squares) / len(samples)
    return total


def random_samples(samples: Samples, count: int, generator: torch.Generator) -> Samples:
    """Return `count` random samples in data order; all of them if `count` is 0 or at least their number."""
    if not 0 < count < len(samples):
        return samples
    return samples.take(torch.randperm(len(samples), generator=generator)[:count].sort().values)


def constants_of(model: nn.Module) -> NamedTensors:
    """Return the tensors that are not differentiated: buffers and frozen parameters."""
    frozen = {n: p.detach() for n, p in model.named_parameters() if not p.requires_grad}
    return {**frozen, **dict(model.named_buffers())}


class _WithTensors:
    """A model with other parameters: calls use the tensors, and all else is asked of the model."""

    def __init__(self, model: nn.Module, tensors: NamedTensors):
        self._model, self._tensors = model, tensors

    def __call__(self, *inputs: Any, **named: Any) -> Any:
        return functional_call(self._model, self._tensors, inputs, named)

    def __getattr__(self, name: str) -> Any:
        # a task may look at attributes of the model, such as its mode
        return getattr(self._model, name)


def with_tensors(model: nn.Module, tensors: NamedTensors) -> Any:
    """Return the model as a callable with other parameters. Its attributes are those of the model."""
    return _WithTensors(model, tensors)
