"""Multiply with the matrix of per-sample gradients without storing it, and solve linear systems by such products."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.func import jvp
from torch.nn.attention import SDPBackend, sdpa_kernel

from ..data.batch import Batch
from ..data.samples import Samples
from ..errors import ModelError
from ..tasks.task import Task
from ..torch_utils.module_state import device_of, evaluating
from .per_sample_gradients import (
    NamedTensors,
    constants_of,
    to_full_precision,
    trainable_parameters,
    with_tensors,
)


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
        parameters, constants = trainable_parameters(self.model), constants_of(self.model)
        direction = {n: d.to(parameters[n]) for n, d in direction.items()}
        products = []
        with evaluating(self.model), _plain_attention(), _full_precision():
            for batch in self._batches():
                losses = lambda w, b=batch: self.task.loss(with_tensors(self.model, {**constants, **w}), b)  # noqa: E731
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
