"""Make masks, and keep the parameters outside a mask unchanged during training.

A mask says which parameters may move. `saliency_mask` ranks all parameters together by the magnitude of the gradient of the
forget loss at the original model, and keeps the largest share `density` (Fan et al., SalUn, ICLR 2024, arXiv:2310.12508,
equation 4). `masked` applies a mask to the optimizer, not to the loss: where only gradients are zeroed, weight decay and
momentum still move the other parameters.

Own code, because masks are what the project is for.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, overload

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ..data.samples import Samples
from ..errors import MaskError
from ..tasks.task import Task
from ..torch_utils.prepared import is_distributed, plain_model, plain_optimizer
from .freezer import Freezer, local_part
from .mask_check import check_mask, masked_part
from .mask_file import Mask, combine, overlap
from .saliency import Saliency, saliency_scores
from .topk import Shards, top_k_and_zeros
from .zero_saliency import check_zeros, density_without_zeros

__all__ = [
    "Mask", "Saliency", "check_mask", "combine", "complete", "full_mask", "inverted_mask", "masked", "overlap",
    "random_mask", "saliency_mask", "saliency_scores", "top_mask",
]  # fmt: skip

# ---- make masks


def _count(density: float, total: int) -> int:
    if not 0 <= density <= 1:
        raise MaskError(f"density is {density}; give the share of parameters that may move, from 0 to 1.")
    return round(density * total)


def _size(scores: Mapping[str, Tensor], shards: Shards | None) -> int:
    size = torch.tensor([sum(s.numel() for s in scores.values())])
    return int(size if shards is None else shards.sum(size))


@overload
def top_mask(
    scores: Mapping[str, Tensor], density: float, shards: Shards | None = None, *, per_layer: bool = False
) -> Mask: ...
@overload
def top_mask(
    scores: Mapping[str, Tensor],
    density: Sequence[float],
    shards: Shards | None = None,
    *,
    per_layer: bool = False,
) -> list[Mask]: ...
def top_mask(
    scores: Mapping[str, Tensor],
    density: float | Sequence[float],
    shards: Shards | None = None,
    *,
    per_layer: bool = False,
) -> Mask | list[Mask]:
    """Return the mask of the round(density * N) largest scores, exactly. Ties are broken by position.

    Args:
        scores: {parameter name: scores of its shape}.
        density: Share of the N elements that may move, from 0 to 1. Several densities give a list of masks from one pass.
        shards: The other processes, where `scores` holds this process's parts of the tensors.
        per_layer: Take the share within every parameter instead of over all of them.

    Raises:
        MaskError: A density is outside [0, 1], scores are NaN, or all scores are zero. A warning reports selected zeros.
    """
    densities = [density] if isinstance(density, int | float) else list(density)
    groups = [{n: s} for n, s in scores.items()] if per_layer else [scores]
    counts = [[_count(d, _size(group, shards)) for d in densities] for group in groups]
    selected = [top_k_and_zeros(g, c, shards) for g, c in zip(groups, counts, strict=True)]
    masks = []
    for k in range(len(densities)):
        tensors = {n: m for parts in selected for n, m in parts[k][0].items()}
        number, count = sum(parts[k][1] for parts in selected), sum(c[k] for c in counts)
        # of a share in each layer, a layer without saliency needs zeros at any density
        remedy = [] if per_layer else [density_without_zeros(count - number, _size(scores, shards))]
        zeros = check_zeros(number, count, *remedy)
        masks.append(Mask(tensors, zeros))
    for mask, share in zip(masks, densities, strict=True):
        mask.metadata["density"] = f"{share:g}"
    return masks[0] if isinstance(density, int | float) else masks


def inverted_mask(scores: Mapping[str, Tensor], density: float) -> Mask:
    """Return the control mask of the round(density * N) smallest scores, exactly.

    Args:
        scores: {parameter name: scores of its shape}.
        density: Share of the N elements that may move, from 0 to 1.
    """
    total = _size(scores, None)
    count = total - _count(density, total)
    others, zeros = top_k_and_zeros(scores, [count])[0]
    check_zeros(zeros, count, density_without_zeros(count - zeros, total, inverted=True))
    return ~Mask(others, {"density": f"{density:g}", "inverted": "yes"})


@overload
def saliency_mask(
    model: nn.Module, samples: Samples, task: Task, density: float = 0.5, **options: Any
) -> Mask: ...
@overload
def saliency_mask(
    model: nn.Module, samples: Samples, task: Task, density: Sequence[float], **options: Any
) -> list[Mask]: ...
def saliency_mask(
    model: nn.Module,
    samples: Samples,
    task: Task,
    density: float | Sequence[float] = 0.5,
    *,
    per_layer: bool = False,
    **options: Any,
) -> Mask | list[Mask]:
    """Return the mask of the most salient share of all parameters together (SalUn, equation 4).

    Parameters that do not require a gradient are in the mask, all false.

    Args:
        model: The original model. It is left unchanged.
        samples: The samples whose loss ranks the parameters, usually the forget set.
        task: The task of the model.
        density: Share of the parameters that may move, from 0 to 1. Several densities give a list of masks from one pass.
        per_layer: Take the share within every parameter instead of over all of them.
        **options: Options of `saliency_scores`.

    Example:
        >>> mask = saliency_mask(model, split.forget, task, density=0.5)  # doctest: +SKIP
    """
    model = plain_model(model)
    scores = saliency_scores(model, samples, task, **options)
    densities = [density] if isinstance(density, int | float) else list(density)
    masks = [complete(m, model) for m in top_mask(scores, densities, per_layer=per_layer)]
    for mask in masks:
        mask.metadata["saliency"] = str(options.get("how", "abs_sum"))
    return masks[0] if isinstance(density, int | float) else masks


def complete(mask: Mask, model: nn.Module) -> Mask:
    """Add an all-false tensor for every parameter of the model that the mask lacks: those that require no gradient."""
    parameters = {n: local_part(p.detach()) for n, p in model.named_parameters()}
    tensors = {
        n: mask[n].to(p.device) if n in mask else torch.zeros_like(p, dtype=torch.bool)
        for n, p in parameters.items()
    }
    return Mask(tensors, mask.metadata)


def random_mask(model: nn.Module, density: float, seed: int = 0) -> Mask:
    """Return the control mask of round(density * N) random trainable parameters, exactly.

    Args:
        model: The model.
        density: Share of the N trainable parameters that may move, from 0 to 1.
        seed: Seed of the choice.
    """
    generator = torch.Generator().manual_seed(seed)
    scores = {
        n: torch.rand(p.shape, generator=generator) for n, p in model.named_parameters() if p.requires_grad
    }
    return complete(top_mask(scores, density), model)


def full_mask(model: nn.Module) -> Mask:
    """Return the control mask in which every trainable parameter may move."""
    parameters = {n: local_part(p) for n, p in model.named_parameters()}
    return Mask({n: torch.full_like(p, p.requires_grad, dtype=torch.bool) for n, p in parameters.items()})


# ---- keep parameters unchanged


@contextmanager
def masked(
    optimizer: Optimizer, model: nn.Module, mask: Mapping[str, Tensor], *, keep_in_autograd: bool = False
) -> Iterator[Freezer]:
    """Keep all parameters outside the mask bit-identical inside the block.

    This holds under any loss, optimizer, momentum and weight decay. Before each step of `optimizer`, the gradients of these
    parameters are zeroed. After the step, their values are restored from a copy. Parameters without a movable element leave
    autograd for the block, also if the loop sets `requires_grad` on them again. Buffers (such as batch-norm statistics) are not
    parameters: the mode of the model decides whether they move.

    Args:
        optimizer: The optimizer that steps inside the block. It may be wrapped by Accelerate or Lightning.
        model: The model it trains. It may be wrapped by Accelerate, DistributedDataParallel or torch.compile, with a mask of the
            model inside.
        mask: {parameter name: bool tensor}, true where the parameter may move.
        keep_in_autograd: Compute the gradients of parameters without a movable element too. Processes of
            DistributedDataParallel wait for them. Always so for a model that is wrapped by it.

    Yields:
        A `Freezer`. Call its `mask_gradients()` before you clip the norm of the gradients.

    Raises:
        MaskError: The mask does not fit the model.

    Example:
        >>> with masked(optimizer, model, mask):  # doctest: +SKIP
        ...     for x, y in loader:
        ...         optimizer.zero_grad()
        ...         loss_function(model(x), y).backward()
        ...         optimizer.step()
    """
    part, optimizer = masked_part(model, mask), plain_optimizer(optimizer)
    check_mask(part, mask)
    stays = keep_in_autograd or is_distributed(model)
    freezer = Freezer(dict(part.named_parameters()), mask, keep_in_autograd=stays)
    freezer.leave_autograd()
    hooks = [
        optimizer.register_step_pre_hook(freezer.mask_gradients),
        optimizer.register_step_post_hook(freezer.restore),
    ]
    try:
        yield freezer
    finally:
        for hook in hooks:
            hook.remove()
        freezer.join_autograd()
