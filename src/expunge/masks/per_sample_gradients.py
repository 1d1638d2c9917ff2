"""Gradients sample by sample, and what influence and importance methods make of them: sums, squares,
products.

`torch.func` takes the gradients of a chunk at once; models that it cannot transform are taken sample by
sample, with the same result. Models are in eval mode throughout: a sample's gradient must not depend on its
batch.
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

Weights = dict[str, Tensor]

CHUNK = 2**26  # numbers held at once: samples of a chunk times weights
LARGE = 2**30  # the same on a GPU, where small chunks leave it idle


def trainable(model: nn.Module) -> Weights:
    """The weights that may move, by name, detached."""
    return {n: p.detach() for n, p in model.named_parameters() if p.requires_grad}


def wide(values: Tensor) -> Tensor:
    """Half precision as float32, in which sums and squares of gradients neither vanish nor lose digits; others as they are."""
    return values.float() if values.itemsize < 4 else values


def per_sample_gradients(model: nn.Module, task: Task, batch: Batch, y: Tensor | None = None) -> Weights:
    """Gradients {name: (B, *shape)} of each sample's loss, with labels `y` instead of its own if given."""
    labels = batch.y if y is None else y
    weights, state = trainable(model), _state(model)

    def loss(w: Weights, x: Inputs, label: Tensor) -> Tensor:
        one = {k: v[None] for k, v in x.items()} if isinstance(x, dict) else x[None]
        return task.loss(_with(model, {**state, **w}), Batch(one, label[None], batch.index[:1]))[0]

    with evaluating(model):
        try:
            return vmap(grad(loss), in_dims=(None, 0, 0), randomness="different")(weights, batch.x, labels)
        except RuntimeError:  # an operation without a batching rule
            return _one_by_one(model, task, batch, labels)


def _one_by_one(model: nn.Module, task: Task, batch: Batch, labels: Tensor) -> Weights:
    named = {n: p for n, p in model.named_parameters() if p.requires_grad}
    rows: list[tuple[Tensor, ...]] = []
    for i in range(len(batch)):
        one = batch.take(torch.tensor([i]))
        value = task.loss(model, Batch(one.x, labels[i : i + 1], one.index)).sum()
        found = torch.autograd.grad(value, list(named.values()), allow_unused=True)
        both = zip(found, named.values(), strict=True)
        rows.append(tuple(torch.zeros_like(p) if g is None else g for g, p in both))
    return {n: torch.stack([row[k] for row in rows]) for k, n in enumerate(named)}


def chunks(model: nn.Module, samples: Samples, largest: int = 256) -> Iterator[Batch]:
    """All samples in order, as many at a time as their gradients fit in memory."""
    device = device_of(model)
    room = CHUNK
    if device.type == "cuda":
        # a sixteenth of the free memory: gradients in the making, and other processes, need some too
        room = min(LARGE, max(CHUNK, torch.cuda.mem_get_info(device)[0] // 64))
    size = max(1, min(largest, room // max(1, sum(p.numel() for p in trainable(model).values()))))
    return samples.batches(size, device=device)


def mean_gradient(model: nn.Module, task: Task, samples: Samples, batch_size: int = 256) -> Weights:
    """The mean of the samples' gradients, every sample weighing the same."""
    named = {n: p for n, p in model.named_parameters() if p.requires_grad}
    total = {n: wide(torch.zeros_like(p)) for n, p in named.items()}
    with evaluating(model):
        for batch in samples.batches(batch_size, device=device_of(model)):
            losses = task.loss(model, batch)
            found = torch.autograd.grad(losses.sum(), list(named.values()), allow_unused=True)
            for n, g in zip(named, found, strict=True):
                if g is not None:
                    total[n] += wide(g) / len(samples)
    return total


def fisher_diagonal(model: nn.Module, task: Task, samples: Samples, *, expected: bool = False) -> Weights:
    """The diagonal of the Fisher information: the mean over samples of squared gradients.

    With the samples' own labels (empirical), or with `expected` over all labels, each weighed by its
    probability under the model (classifiers only).
    """
    total = {n: wide(torch.zeros_like(p)) for n, p in trainable(model).items()}
    for batch in chunks(model, samples):
        if not expected:
            for n, g in per_sample_gradients(model, task, batch).items():
                total[n] += wide(g).square().sum(0) / len(samples)
            continue
        with evaluating(model), torch.no_grad():
            p = task.logits(model, batch.x).softmax(1)  # type: ignore[attr-defined]  # (B, K)
        for k in range(p.shape[1]):
            found = per_sample_gradients(model, task, batch, torch.full_like(batch.y, k))
            for n, g in found.items():
                total[n] += torch.einsum("b,b...->...", p[:, k].to(total[n]), wide(g).square()) / len(samples)
    return total


class GradientMatrix:
    """The matrix G (T, P) of the gradients of T samples, never formed: products with it, one pass over the
    samples each.

    G x is a directional derivative (forward mode), the transpose's product a backward pass of weighted
    losses.
    """

    def __init__(self, model: nn.Module, task: Task, samples: Samples, batch_size: int = 128):
        self.model, self.task, self.samples, self.batch_size = model, task, samples, batch_size

    def __matmul__(self, direction: Weights) -> Tensor:
        """G x (T,), float64."""
        weights, state, found = trainable(self.model), _state(self.model), []
        direction = {n: d.to(weights[n]) for n, d in direction.items()}
        with evaluating(self.model), _plain_attention(), _full_precision():
            for batch in self._batches():
                losses = lambda w, b=batch: self.task.loss(_with(self.model, {**state, **w}), b)  # noqa: E731
                try:
                    along = jvp(losses, (weights,), (direction,))[1]
                except NotImplementedError:  # a layer without forward mode, such as nn.LSTM
                    along = self._twice_backwards(batch, direction)
                found.append(along.double())
        return torch.cat(found)

    def _twice_backwards(self, batch: Batch, direction: Weights) -> Tensor:
        """G x of a batch (B,): the weighted losses' gradient is linear in their weights, and this is its slope."""
        named = {n: p for n, p in self.model.named_parameters() if p.requires_grad}
        try:
            losses = self.task.loss(self.model, batch)
            share = torch.zeros_like(losses, requires_grad=True)
            found = torch.autograd.grad(
                (losses * share).sum(), list(named.values()), create_graph=True, allow_unused=True
            )
            both = zip(found, named, strict=True)
            total = torch.stack([(g * direction[n]).sum() for g, n in both if g is not None]).sum()
            return torch.autograd.grad(total, share)[0]
        except (NotImplementedError, RuntimeError) as error:
            if isinstance(error, torch.OutOfMemoryError):
                raise
            raise ModelError(
                f"the model has a layer whose gradients cannot be differentiated ({error}); use another method than influence, or "
                "its paper_exact form."
            ) from error

    def transposed(self, weight: Tensor) -> Weights:
        """G^T a for `a` (T,)."""
        named = {n: p for n, p in self.model.named_parameters() if p.requires_grad}
        total, start = {n: wide(torch.zeros_like(p)) for n, p in named.items()}, 0
        with evaluating(self.model), _full_precision():
            for batch in self._batches():
                losses = self.task.loss(self.model, batch)
                share = weight[start : start + len(batch)].to(losses)
                start += len(batch)
                found = torch.autograd.grad((losses * share).sum(), list(named.values()), allow_unused=True)
                for n, g in zip(named, found, strict=True):
                    if g is not None:
                        total[n] += wide(g)
        return total

    def _batches(self) -> Iterator[Batch]:
        return self.samples.batches(self.batch_size, device=device_of(self.model))


def conjugate_gradient(
    product: Callable[[Tensor], Tensor], target: Tensor, tolerance: float, most: int
) -> tuple[Tensor, int, float]:
    """Solve A x = target (n,) for a symmetric positive definite matrix A that is given by its product with a vector.

    Own code: `scipy.sparse.linalg.cg` does not return the residual, which runs record. To compute it takes one more
    product, which is two passes over the samples.

    Returns:
        x, the number of steps, and the relative residual.
    """
    x, residual = torch.zeros_like(target), target.clone()
    direction, size = residual.clone(), residual @ residual
    first, steps = size.clone(), 0
    while steps < most and size > tolerance**2 * first:
        image = product(direction)
        step = size / (direction @ image)
        x += step * direction
        residual -= step * image
        before, size = size, residual @ residual
        direction = residual + size / before * direction
        steps += 1
    return x, steps, float((size / first).sqrt()) if first > 0 else 0.0


def some(samples: Samples, count: int, generator: torch.Generator) -> Samples:
    """`count` of the samples at random, in data order; all of them for 0 or where there are not so many."""
    if not 0 < count < len(samples):
        return samples
    return samples.take(torch.randperm(len(samples), generator=generator)[:count].sort().values)


@contextmanager
def _plain_attention() -> Iterator[None]:
    """Attention by operators that have a forward-mode derivative; the fused kernels have none."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


@contextmanager
def _full_precision() -> Iterator[None]:
    """Convolutions in float32, where a GPU rounds their inputs to ten bits: what solves a system needs products that agree."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


def _state(model: nn.Module) -> Weights:
    """What is held constant: buffers and frozen weights."""
    held = {n: p.detach() for n, p in model.named_parameters() if not p.requires_grad}
    return {**held, **dict(model.named_buffers())}


def _with(model: nn.Module, tensors: Weights) -> Any:
    """The model as a function with other weights."""
    return lambda *inputs, **named: functional_call(model, tensors, inputs, named)
