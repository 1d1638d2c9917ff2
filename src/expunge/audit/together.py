"""Many small models trained in one loop.

`torch.func` stacks the weights of several models and `vmap` runs them as one (a batched matrix product, a
grouped convolution). On a GPU that fills the device. On a CPU grouped convolutions are slower than one
model after the other, so there convolutional models are trained singly by default; both ways give the same
models up to rounding.
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


def train_together(
    models: list[nn.Module],
    samples: list[Samples],
    recipe: Retrain,
    task: Classification,
    seeds: list[int],
    *,
    vectorised: bool = True,
) -> list[nn.Module]:
    """Train every model on its own samples by `recipe`, all in one loop; the models handed in are changed
    and returned.

    The order of samples and the augmentation of each model follow its own seed alone. Sample counts must be
    equal. Raises `ExpungeError` naming the models that diverged.
    """
    if len({len(s) for s in samples}) != 1 or not len(models) == len(samples) == len(seeds):
        raise ExpungeError(
            f"{len(models)} models, {len(seeds)} seeds and sample counts {sorted({len(s) for s in samples})} came; "
            "models trained together need one seed and equally many samples each."
        )
    device = device_of(models[0])
    base = copy.deepcopy(models[0]).train()
    weights, buffers = stack_module_state([m.train() for m in models])  # type: ignore[arg-type]
    trained = {n for n, p in base.named_parameters() if p.requires_grad}
    buffers = {
        **buffers,
        **{n: w.detach() for n, w in weights.items() if n not in trained},
    }  # frozen: held as they are
    named: Tensors = {n: nn.Parameter(w.detach()) for n, w in weights.items() if n in trained}
    stack = nn.ParameterList(named.values())
    optimizer = make_optimizer(recipe, stack)
    total = recipe.epochs * -(-len(samples[0]) // recipe.batch_size)
    scheduler = LambdaLR(optimizer, rate(recipe.lr_schedule, total))

    def loss(w: Tensors, b: Tensors, x: Inputs, y: Tensor) -> Tensor:
        model: Any = lambda *a, **k: functional_call(base, (w, b), a, k)  # noqa: E731
        return task.loss(model, Batch(x, y, torch.arange(len(y)))).mean()

    many = vmap(loss, randomness="different") if vectorised else _one_by_one(loss)
    draws = [torch.Generator().manual_seed(s) for s in seeds]
    with seeded(seeds[0], device):
        for _ in range(recipe.epochs):
            passes = [
                s.batches(recipe.batch_size, device=device, shuffle=d, augment=d)
                for s, d in zip(samples, draws, strict=True)
            ]
            for batches in zip(*passes, strict=True):
                optimizer.zero_grad(set_to_none=True)
                given = _stacked([b.x for b in batches]), torch.stack([b.y for b in batches])
                try:
                    losses = many(named, buffers, *given)
                except (
                    ValueError
                ) as error:  # a last batch of one sample, for this step by the running statistics
                    if SINGLE_SAMPLE not in str(error):
                        raise
                    freeze_batch_norm(base)
                    losses = many(named, buffers, *given)
                    base.train()
                losses.sum().backward()
                if recipe.clip is not None:
                    _clip([p for p in stack], recipe.clip)
                optimizer.step()
                scheduler.step()
    return _unstacked(models, named, buffers)


def _one_by_one(loss: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def many(w: Tensors, b: Tensors, x: Inputs, y: Tensor) -> Tensor:
        at = lambda t, k: {n: v[k] for n, v in t.items()} if isinstance(t, dict) else t[k]  # noqa: E731
        return torch.stack([loss(at(w, k), at(b, k), at(x, k), y[k]) for k in range(len(y))])

    return many


def _stacked(x: list[Inputs]) -> Inputs:
    if isinstance(x[0], dict):
        return {k: torch.stack([i[k] for i in x]) for k in x[0]}  # type: ignore[index]
    return torch.stack(x)  # type: ignore[arg-type]


def _clip(stack: list[nn.Parameter], largest: float) -> None:
    """Each model's gradient is cut to its own norm."""
    grads = [p.grad for p in stack if p.grad is not None]
    norm = torch.stack([g.flatten(1).square().sum(1) for g in grads]).sum(0).sqrt()
    factor = (largest / (norm + 1e-6)).clamp(max=1)
    for g in grads:
        g.mul_(factor.view(-1, *[1] * (g.ndim - 1)))


def _unstacked(models: list[nn.Module], weights: Tensors, buffers: Tensors) -> list[nn.Module]:
    for k, model in enumerate(models):
        state = {n: t.detach()[k].clone() for n, t in {**weights, **buffers}.items()}
        model.load_state_dict(state, strict=False)  # buffers that are not saved stay as they are
        model.eval()
    broken = [k for k, m in enumerate(models) if not all(p.isfinite().all() for p in m.parameters())]
    if broken:
        raise ExpungeError(f"shadow models {broken} diverged; lower the recipe's lr, or set clip.")
    return models
