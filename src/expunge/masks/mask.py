"""Which weights may move: saliency masks, their controls, and the optimizer wrapper that holds the others still.

The saliency of a weight is the magnitude of the forget loss's gradient at the original weights; the mask keeps the
`density` largest of all weights together (Fan et al., SalUn, ICLR 2024, arXiv:2310.12508, equation 4). A mask belongs to
the optimizer, not to the loss: zeroing gradients alone lets weight decay and momentum move the weights it should keep.

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
from ..errors import MaskError, raise_all
from ..tasks.task import Task
from .freezer import Held, local
from .mask_file import Mask, combine, overlap
from .saliency import Saliency, saliency_scores
from .topk import Shards, top_k

__all__ = [
    "Mask", "Saliency", "check_mask", "combine", "complete", "full_mask", "inverted_mask", "masked", "overlap",
    "random_mask", "saliency_mask", "saliency_scores", "top_mask",
]  # fmt: skip

# ---- making masks


def _count(density: float, total: int) -> int:
    if not 0 <= density <= 1:
        raise MaskError(f"density is {density}; it is the share of weights that may move, from 0 to 1.")
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
    """The mask of exactly round(density * N) largest scores, ties by position; one mask for each of several
    densities. `per_layer` takes that share within every parameter instead of over all of them."""
    wanted = [density] if isinstance(density, int | float) else list(density)
    if per_layer:
        each = [top_mask({n: s}, wanted, shards) for n, s in scores.items()]
        found = [Mask({n: m for row in each for n, m in row[k].items()}) for k in range(len(wanted))]
    else:
        total = _size(scores, shards)
        found = [Mask(m) for m in top_k(scores, [_count(d, total) for d in wanted], shards)]
    for mask, share in zip(found, wanted, strict=True):
        mask.about["density"] = f"{share:g}"
    return found[0] if isinstance(density, int | float) else found


def inverted_mask(scores: Mapping[str, Tensor], density: float) -> Mask:
    """The control with the least salient share: exactly round(density * N) smallest scores."""
    total = _size(scores, None)
    rest = Mask(
        top_k(scores, [total - _count(density, total)])[0], {"density": f"{density:g}", "inverted": "yes"}
    )
    return ~rest


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
    """The most salient share of all weights together for the loss on `samples` (SalUn, equation 4).

    Several densities come from one pass. Parameters that do not require a gradient are in the mask, all false.
    `per_layer` is that of `top_mask`, `options` are those of `saliency_scores`.
    """
    scores = saliency_scores(model, samples, task, **options)
    wanted = [density] if isinstance(density, int | float) else list(density)
    made = [complete(m, model) for m in top_mask(scores, wanted, per_layer=per_layer)]
    for mask in made:
        mask.about["saliency"] = str(options.get("how", "abs_sum"))
    return made[0] if isinstance(density, int | float) else made


def complete(mask: Mask, model: nn.Module) -> Mask:
    """The mask with a tensor for every parameter of the model: all false for those it lacks, which require no
    gradient."""
    every = {n: local(p.detach()) for n, p in model.named_parameters()}
    made = {
        n: mask[n].to(p.device) if n in mask else torch.zeros_like(p, dtype=torch.bool)
        for n, p in every.items()
    }
    return Mask(made, mask.about)


def random_mask(model: nn.Module, density: float, seed: int = 0) -> Mask:
    """The control with a random share: exactly round(density * N) of all trainable weights."""
    draw = torch.Generator().manual_seed(seed)
    scores = {n: torch.rand(p.shape, generator=draw) for n, p in model.named_parameters() if p.requires_grad}
    return complete(top_mask(scores, density), model)


def full_mask(model: nn.Module) -> Mask:
    """The control in which every trainable weight may move."""
    weights = {n: local(p) for n, p in model.named_parameters()}
    return Mask({n: torch.full_like(p, p.requires_grad, dtype=torch.bool) for n, p in weights.items()})


def check_mask(model: nn.Module, mask: Mapping[str, Tensor]) -> None:
    """Raise `MaskError` with every reason why the mask is not one of this model."""
    weights = {n: local(p.detach()) for n, p in model.named_parameters()}
    problems = [
        f"the mask {words} {len(n)} names (first: {n[:3]}); make it from this model."
        for words, n in (
            ("lacks", [k for k in weights if k not in mask]),
            ("has unknown", [k for k in mask if k not in weights]),
        )
        if n
    ]
    problems += [
        f"{n} has shape {tuple(m.shape)} in the mask and {tuple(weights[n].shape)} in the model."
        for n, m in mask.items()
        if n in weights and m.shape != weights[n].shape
    ]
    problems += [
        f"{n} is {m.dtype} in the mask; masks are bool, true = may move."
        for n, m in mask.items()
        if m.dtype != torch.bool
    ]
    raise_all(problems, MaskError)


# ---- holding weights still


@contextmanager
def masked(optimizer: Optimizer, model: nn.Module, mask: Mapping[str, Tensor]) -> Iterator[Held]:
    """Inside the block, weights outside the mask stay bit-identical under any loss, optimizer, momentum and weight decay.

    Before each step of `optimizer` their gradients are zeroed, after it the weights are put back from a copy of their
    own. Parameters held as a whole leave autograd for the block. Buffers (batch-norm statistics) are no weights and move
    as the model's mode says. Raises `MaskError` if the mask is not one of this model.
    """
    check_mask(model, mask)
    held = Held(dict(model.named_parameters()), mask)
    for weight, _ in held.still:
        weight.requires_grad_(False)
        weight.grad = None
    hooks = [
        optimizer.register_step_pre_hook(held.mask_gradients),
        optimizer.register_step_post_hook(held.restore),
    ]
    try:
        yield held
    finally:
        for hook in hooks:
            hook.remove()
        for weight, required in held.still:
            weight.requires_grad_(required)
