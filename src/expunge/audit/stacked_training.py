"""Train many small models in one loop.

`torch.func` stacks the parameters of several models, and `vmap` runs them as one model. A linear layer becomes a batched
matrix product, a convolution a grouped convolution. This fills a GPU. On a CPU, grouped convolutions are slower than one
model after the other, so the caller sets `vectorised=False` for them. Both ways give the same models up to rounding.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap
from torch.optim.lr_scheduler import LambdaLR

from ..data.batch import Batch, Inputs
from ..data.samples import Samples
from ..errors import ExpungeError
from ..methods.retrain import Retrain
from ..tasks.classification import Classification
from ..torch_utils.module_state import device_of, freeze_batch_norm, seeded
from ..training.loop import SINGLE_SAMPLE, make_optimizer, rate

Tensors = dict[str, Tensor]
Losses = Callable[[Tensors, Tensors, Inputs, Tensor], Tensor]


def train_stacked(
    models: list[nn.Module],
    samples: list[Samples],
    recipe: Retrain,
    task: Classification,
    seeds: list[int],
    *,
    vectorised: bool = True,
) -> list[nn.Module]:
    """Train every model on its own samples, all in one loop.

    The sample order and the augmentation of a model depend only on its own seed.

    Args:
        models: The models to train. They are changed in place.
        samples: The training samples of each model. All models need equally many.
        recipe: The training recipe.
        task: The task, for its loss.
        seeds: One seed for each model.
        vectorised: Run all models as one with `vmap`. If False, run one model after the other.

    Returns:
        The models, in eval mode.

    Raises:
        ExpungeError: If the counts of models, seeds or samples differ, or if models diverged (the message names them).
    """
    if len({len(s) for s in samples}) != 1 or not len(models) == len(samples) == len(seeds):
        raise ExpungeError(
            f"there are {len(models)} models, {len(seeds)} seeds, and sample counts {sorted({len(s) for s in samples})}; "
            "give one seed for each model, and equally many samples for all models."
        )
    device = device_of(models[0])
    base = copy.deepcopy(models[0]).train()
    parameters, buffers = _stacked_state(models, base)
    stack = nn.ParameterList(parameters.values())
    optimizer = make_optimizer(recipe, stack)
    total = recipe.epochs * -(-len(samples[0]) // recipe.batch_size)
    scheduler = LambdaLR(optimizer, rate(recipe.lr_schedule, total))
    losses_of = _losses(base, task, vectorised)
    generators = [torch.Generator().manual_seed(s) for s in seeds]
    with seeded(seeds[0], device):
        for _ in range(recipe.epochs):
            passes = [
                s.batches(recipe.batch_size, device=device, shuffle=g, augment=g)
                for s, g in zip(samples, generators, strict=True)
            ]
            for batches in zip(*passes, strict=True):
                optimizer.zero_grad(set_to_none=True)
                x, y = _stacked_inputs([b.x for b in batches]), torch.stack([b.y for b in batches])
                losses = losses_of(parameters, buffers, x, y)
                losses.sum().backward()
                if recipe.clip is not None:
                    _clip_each(list(stack), recipe.clip)
                optimizer.step()
                scheduler.step()
    return _unstack(models, parameters, buffers)


def _stacked_state(models: list[nn.Module], base: nn.Module) -> tuple[Tensors, Tensors]:
    """Return the stacked parameters that train, and the stacked buffers with the frozen parameters."""
    stacked, buffers = stack_module_state([m.train() for m in models])  # type: ignore[arg-type]
    trained = {n for n, p in base.named_parameters() if p.requires_grad}
    frozen = {n: p.detach() for n, p in stacked.items() if n not in trained}
    parameters: Tensors = {n: nn.Parameter(p.detach()) for n, p in stacked.items() if n in trained}
    return parameters, {**buffers, **frozen}


def _losses(base: nn.Module, task: Classification, vectorised: bool) -> Losses:
    """Return a function that gives the mean loss of each model (models,)."""

    def loss(parameters: Tensors, buffers: Tensors, x: Inputs, y: Tensor) -> Tensor:
        model: Any = lambda *a, **k: functional_call(base, (parameters, buffers), a, k)  # noqa: E731
        return task.loss(model, Batch(x, y, torch.arange(len(y)))).mean()

    def one_by_one(parameters: Tensors, buffers: Tensors, x: Inputs, y: Tensor) -> Tensor:
        at = lambda t, k: {n: v[k] for n, v in t.items()} if isinstance(t, dict) else t[k]  # noqa: E731
        return torch.stack([loss(at(parameters, k), at(buffers, k), at(x, k), y[k]) for k in range(len(y))])

    losses = vmap(loss, randomness="different") if vectorised else one_by_one

    def robust(parameters: Tensors, buffers: Tensors, x: Inputs, y: Tensor) -> Tensor:
        try:
            return losses(parameters, buffers, x, y)
        except ValueError as error:
            if SINGLE_SAMPLE not in str(error):
                raise
        # a last batch of one sample has no batch statistics: this step uses the running ones
        freeze_batch_norm(base)
        try:
            return losses(parameters, buffers, x, y)
        finally:
            base.train()

    return robust


def _stacked_inputs(x: list[Inputs]) -> Inputs:
    if isinstance(x[0], dict):
        return {k: torch.stack([i[k] for i in x]) for k in x[0]}  # type: ignore[index]
    return torch.stack(x)  # type: ignore[arg-type]


def _clip_each(stack: list[nn.Parameter], max_norm: float) -> None:
    """Clip the gradient of each model by its own norm."""
    grads = [p.grad for p in stack if p.grad is not None]
    norm = torch.stack([g.flatten(1).square().sum(1) for g in grads]).sum(0).sqrt()
    factor = (max_norm / (norm + 1e-6)).clamp(max=1)
    for g in grads:
        g.mul_(factor.view(-1, *[1] * (g.ndim - 1)))


def _unstack(models: list[nn.Module], parameters: Tensors, buffers: Tensors) -> list[nn.Module]:
    """Write the stacked tensors back into the models."""
    for k, model in enumerate(models):
        state = {n: t.detach()[k].clone() for n, t in {**parameters, **buffers}.items()}
        # not strict: buffers that a state dict does not hold stay as they are
        model.load_state_dict(state, strict=False)
        model.eval()
    diverged = [k for k, m in enumerate(models) if not all(p.isfinite().all() for p in m.parameters())]
    if diverged:
        raise ExpungeError(f"shadow models {diverged} diverged; lower the recipe's lr, or set its clip.")
    return models
