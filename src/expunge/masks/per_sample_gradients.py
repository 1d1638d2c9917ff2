"""Compute gradients sample by sample, and their sums, squares and products for influence and importance methods.

`torch.func` computes the gradients of a batch at once. A model that it cannot transform is handled sample by sample, with the
same result. The model is in eval mode throughout, because the gradient of a sample must not depend on its batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, jvp, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from ..data.batch import Batch, Inputs
from ..data.samples import Samples
from ..errors import ModelError
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
    parameters, constants = trainable_parameters(model), _constants(model)

    def loss(w: NamedTensors, x: Inputs, label: Tensor) -> Tensor:
        one = {k: v[None] for k, v in x.items()} if isinstance(x, dict) else x[None]
        return task.loss(_with(model, {**constants, **w}), Batch(one, label[None], batch.index[:1]))[0]

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


class GradientMatrix:
    """Multiply with the matrix G (T, P) of the gradients of T samples without storing it.

    Each product takes one pass over the samples. G x is a directional derivative (forward mode). The transposed product is a
    backward pass of weighted losses.

    Args:
        model: The model, with P trainable parameters.
        task: Its task.
        samples: The T samples.
        batch_size: Number of samples per batch.
    """

    def __init__(self, model: nn.Module, task: Task, samples: Samples, batch_size: int = 128):
        self.model, self.task, self.samples, self.batch_size = model, task, samples, batch_size

    def __matmul__(self, direction: NamedTensors) -> Tensor:
        """Return G x (T,), float64."""
        parameters, constants = trainable_parameters(self.model), _constants(self.model)
        direction = {n: d.to(parameters[n]) for n, d in direction.items()}
        products = []
        with evaluating(self.model), _plain_attention(), _full_precision():
            for batch in self._batches():
                losses = lambda w, b=batch: self.task.loss(_with(self.model, {**constants, **w}), b)  # noqa: E731
                try:
                    product = jvp(losses, (parameters,), (direction,))[1]
                except NotImplementedError:
                    # a layer without forward mode, such as nn.LSTM
                    product = self._product_by_double_backward(batch, direction)
                products.append(product.double())
        return torch.cat(products)

    def _product_by_double_backward(self, batch: Batch, direction: NamedTensors) -> Tensor:
        """Return G x of a batch (B,): the derivative, by the weights of the losses, of their weighted gradient times x."""
        parameters = {n: p for n, p in self.model.named_parameters() if p.requires_grad}
        try:
            losses = self.task.loss(self.model, batch)
            weights = torch.zeros_like(losses, requires_grad=True)
            gradients = torch.autograd.grad(
                (losses * weights).sum(), list(parameters.values()), create_graph=True, allow_unused=True
            )
            pairs = zip(gradients, parameters, strict=True)
            total = torch.stack([(g * direction[n]).sum() for g, n in pairs if g is not None]).sum()
            return torch.autograd.grad(total, weights)[0]
        except (NotImplementedError, RuntimeError) as error:
            if isinstance(error, torch.OutOfMemoryError):
                raise
            raise ModelError(
                f"the model has a layer whose gradients cannot be differentiated ({error}); use another method than influence, or "
                "its paper_exact form."
            ) from error

    def transposed(self, weights: Tensor) -> NamedTensors:
        """Return G^T a for `weights` a (T,)."""
        parameters = {n: p for n, p in self.model.named_parameters() if p.requires_grad}
        total = {n: to_full_precision(torch.zeros_like(p)) for n, p in parameters.items()}
        start = 0
        with evaluating(self.model), _full_precision():
            for batch in self._batches():
                losses = self.task.loss(self.model, batch)
                batch_weights = weights[start : start + len(batch)].to(losses)
                start += len(batch)
                gradients = torch.autograd.grad(
                    (losses * batch_weights).sum(), list(parameters.values()), allow_unused=True
                )
                for n, gradient in zip(parameters, gradients, strict=True):
                    if gradient is not None:
                        total[n] += to_full_precision(gradient)
        return total

    def _batches(self) -> Iterator[Batch]:
        return self.samples.batches(self.batch_size, device=device_of(self.model))


def conjugate_gradient(
    product: Callable[[Tensor], Tensor], target: Tensor, tolerance: float, max_steps: int
) -> tuple[Tensor, int, float]:
    """Solve A x = target by conjugate gradients, for a symmetric positive definite A.

    Own code: `scipy.sparse.linalg.cg` does not return the residual, which runs record. To compute it takes one more
    product, which is two passes over the samples.

    Args:
        product: Returns A v (n,) for a vector v (n,).
        target: The right-hand side (n,).
        tolerance: The relative residual at which to stop.
        max_steps: Maximum number of steps.

    Returns:
        The solution x (n,), the number of steps, and the relative residual.
    """
    x, residual = torch.zeros_like(target), target.clone()
    direction, squared_norm = residual.clone(), residual @ residual
    first, steps = squared_norm.clone(), 0
    while steps < max_steps and squared_norm > tolerance**2 * first:
        image = product(direction)
        step = squared_norm / (direction @ image)
        x += step * direction
        residual -= step * image
        before, squared_norm = squared_norm, residual @ residual
        direction = residual + squared_norm / before * direction
        steps += 1
    return x, steps, float((squared_norm / first).sqrt()) if first > 0 else 0.0


def random_samples(samples: Samples, count: int, generator: torch.Generator) -> Samples:
    """Return `count` random samples in data order; all of them if `count` is 0 or at least their number."""
    if not 0 < count < len(samples):
        return samples
    return samples.take(torch.randperm(len(samples), generator=generator)[:count].sort().values)


@contextmanager
def _plain_attention() -> Iterator[None]:
    """Compute attention by operators that have a forward-mode derivative. The fused kernels have none."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


@contextmanager
def _full_precision() -> Iterator[None]:
    """Compute convolutions in float32: a solver needs products that agree, and TF32 on a GPU rounds inputs to ten bits."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


def _constants(model: nn.Module) -> NamedTensors:
    """Return the tensors that are not differentiated: buffers and frozen parameters."""
    frozen = {n: p.detach() for n, p in model.named_parameters() if not p.requires_grad}
    return {**frozen, **dict(model.named_buffers())}


def _with(model: nn.Module, tensors: NamedTensors) -> Any:
    """Return the model as a function with other parameters."""
    return lambda *inputs, **named: functional_call(model, tensors, inputs, named)
