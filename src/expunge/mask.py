"""Which weights may move: saliency masks, their controls, and the optimizer wrapper that holds the others still.

The saliency of a weight is the magnitude of the forget loss's gradient at the original weights; the mask keeps the
`density` largest of all weights together (Fan et al., SalUn, ICLR 2024, arXiv:2310.12508, equation 4). A mask belongs to
the optimizer, not to the loss: zeroing gradients alone lets weight decay and momentum move the weights it should keep.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, overload

import safetensors.torch
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from .checkpoint import read_checkpoint
from .data import Samples
from .errors import MaskError, raise_all
from .files import atomic
from .held import Held, local
from .modes import device_of, evaluating, seeded
from .task import Task
from .topk import Shards, top_k


class Mask(dict[str, Tensor]):
    """{parameter name: bool tensor of its shape}, true = may move. `about` (texts by name) says what it was made
    from; it goes into the file."""

    def __init__(self, tensors: Mapping[str, Tensor] | Iterable[tuple[str, Tensor]] = (), about: Mapping[str, str] | None = None):
        super().__init__(tensors)
        self.about = dict(about or {})

    @property
    def count(self) -> int:
        """How many weights may move."""
        return sum(int(m.sum()) for m in self.values())

    @property
    def density(self) -> float:
        """The share of weights that may move."""
        return self.count / max(1, sum(m.numel() for m in self.values()))

    def layers(self) -> dict[str, float]:
        """The density within each parameter: a global ranking favours some layers."""
        return {n: m.float().mean().item() for n, m in self.items()}

    def __invert__(self) -> Mask:
        """The mask in which exactly the other weights may move."""
        return Mask({n: ~m for n, m in self.items()}, self.about)

    def save(self, path: str | Path, **about: str) -> Path:
        """Write the mask as packed bits, one a weight, in safetensors, atomically. `about` is added to the mask's own:
        name there the split's hash and the model's, and `load` can refuse a mask made for others."""
        shapes = {n: list(m.shape) for n, m in self.items()}
        head = {**self.about, **about, "shapes": json.dumps(shapes), "expunge": "mask"}
        with atomic(path) as part:
            safetensors.torch.save_file({n: _pack(m) for n, m in self.items()}, part, head)
        return Path(path)

    @classmethod
    def load(cls, path: str | Path, **expected: str) -> Mask:
        """Read what `save` wrote. Raises `MaskError` if it was saved with other words than `expected` (for example
        `split=split.hash`), and `MaskError` or `CheckpointError` for anything that is no mask."""
        read = read_checkpoint(path)
        about = dict(read.metadata)
        if about.pop("expunge", None) != "mask":
            raise MaskError(f"{path} is no mask; save one with Mask.save.")
        try:
            shapes = json.loads(about.pop("shapes"))
            mask = cls({n: _unpack(read.state[n.removeprefix(read.prefix)], tuple(s)) for n, s in shapes.items()}, about)
        except (KeyError, ValueError, TypeError, AttributeError, RuntimeError) as error:
            raise MaskError(f"{path} is a damaged mask ({type(error).__name__}: {error}); make it again.") from error
        raise_all([f"{path} was made with {k} {about.get(k, '(not said)')}, not {v}; make a mask for this one."
                   for k, v in expected.items() if about.get(k) != v], MaskError)
        return mask


def _pack(mask: Tensor) -> Tensor:
    flat = mask.reshape(-1).cpu().to(torch.uint8)
    flat = torch.nn.functional.pad(flat, (0, -len(flat) % 8)).view(-1, 8)
    return (flat << torch.arange(8, dtype=torch.uint8)).sum(1, dtype=torch.uint8)


def _unpack(packed: Tensor, shape: tuple[int, ...]) -> Tensor:
    bits = ((packed[:, None] >> torch.arange(8, dtype=torch.uint8)) & 1).view(-1)
    return bits[: math.prod(shape)].bool().view(shape)


# ---- making masks


def saliency_scores(
    model: nn.Module,
    samples: Samples,
    task: Task,
    *,
    batch_size: int = 256,
    augment: bool = False,
    seed: int = 0,
    paper_exact: bool = False,
    reduce: Callable[[Tensor], Tensor] | None = None,
) -> dict[str, Tensor]:
    """|gradient of the mean loss over `samples`| for every trainable parameter, the model in eval mode and left as it was.

    Every sample weighs the same, so the result does not depend on the batch size. `paper_exact` averages the means of
    shuffled, augmented batches as the released code of SalUn does (a short last batch then weighs more). `reduce` sums a
    gradient over the processes of a distributed run, each of which hands in its part of the samples.
    """
    weights = {n: p for n, p in model.named_parameters() if p.requires_grad}
    total = {
        n: torch.zeros_like(p, dtype=torch.promote_types(p.dtype, torch.float32)) for n, p in weights.items()
    }
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
            loss = losses.mean() / steps if paper_exact else losses.sum() / len(samples)
            for into, grad in zip(
                total.values(),
                torch.autograd.grad(loss, list(weights.values()), allow_unused=True),
                strict=True,
            ):
                if grad is not None:
                    into += grad
    return {n: (t if reduce is None else reduce(t)).abs_() for n, t in total.items()}


def _count(density: float, total: int) -> int:
    if not 0 <= density <= 1:
        raise MaskError(f"density is {density}; it is the share of weights that may move, from 0 to 1.")
    return round(density * total)


def _size(scores: Mapping[str, Tensor], shards: Shards | None) -> int:
    size = torch.tensor([sum(s.numel() for s in scores.values())])
    return int(size if shards is None else shards.sum(size))


@overload
def top_mask(scores: Mapping[str, Tensor], density: float, shards: Shards | None = None) -> Mask: ...
@overload
def top_mask(
    scores: Mapping[str, Tensor], density: Sequence[float], shards: Shards | None = None
) -> list[Mask]: ...
def top_mask(
    scores: Mapping[str, Tensor], density: float | Sequence[float], shards: Shards | None = None
) -> Mask | list[Mask]:
    """The mask of exactly round(density * N) largest scores, ties by position; one mask for each of several densities."""
    wanted = [density] if isinstance(density, int | float) else list(density)
    total = _size(scores, shards)
    found = [Mask(m) for m in top_k(scores, [_count(d, total) for d in wanted], shards)]
    return found[0] if isinstance(density, int | float) else found


def inverted_mask(scores: Mapping[str, Tensor], density: float) -> Mask:
    """The control with the least salient share: exactly round(density * N) smallest scores."""
    total = _size(scores, None)
    rest = top_k(scores, [total - _count(density, total)])[0]
    return Mask({n: ~m for n, m in rest.items()})


@overload
def saliency_mask(
    model: nn.Module,
    samples: Samples,
    task: Task,
    density: float = 0.5,
    *,
    batch_size: int = 256,
    seed: int = 0,
) -> Mask: ...
@overload
def saliency_mask(
    model: nn.Module,
    samples: Samples,
    task: Task,
    density: Sequence[float],
    *,
    batch_size: int = 256,
    seed: int = 0,
) -> list[Mask]: ...
def saliency_mask(
    model: nn.Module,
    samples: Samples,
    task: Task,
    density: float | Sequence[float] = 0.5,
    *,
    batch_size: int = 256,
    seed: int = 0,
) -> Mask | list[Mask]:
    """The most salient share of all weights together for the loss on `samples` (SalUn, equation 4).

    Several densities come from one pass. Parameters that do not require a gradient are in the mask, all false.
    """
    scores = saliency_scores(model, samples, task, batch_size=batch_size, seed=seed)
    made = [
        complete(m, model)
        for m in top_mask(scores, [density] if isinstance(density, int | float) else list(density))
    ]
    return made[0] if isinstance(density, int | float) else made


def complete(mask: Mask, model: nn.Module) -> Mask:
    """The mask with a tensor for every parameter of the model: all false for those it lacks, which require no gradient."""
    return Mask(
        {
            n: mask[n].to(p.device) if n in mask else torch.zeros_like(p, dtype=torch.bool)
            for n, p in model.named_parameters()
        }
    )


def random_mask(model: nn.Module, density: float, seed: int = 0) -> Mask:
    """The control with a random share: exactly round(density * N) of all trainable weights."""
    draw = torch.Generator().manual_seed(seed)
    scores = {n: torch.rand(p.shape, generator=draw) for n, p in model.named_parameters() if p.requires_grad}
    return complete(top_mask(scores, density), model)


def full_mask(model: nn.Module) -> Mask:
    """The control in which every trainable weight may move."""
    return Mask(
        {n: torch.full_like(p, p.requires_grad, dtype=torch.bool) for n, p in model.named_parameters()}
    )


def combine(a: Mask, b: Mask) -> Mask:
    """The weights that both masks let move; a name in one mask only follows that one."""
    return Mask(
        {n: a[n] & b[n].to(a[n].device) if n in a and n in b else a.get(n, b.get(n)) for n in {**a, **b}}
    )  # type: ignore[misc]


def overlap(a: Mask, b: Mask) -> float:
    """Intersection over union of the weights that two masks let move; 1 for two empty masks."""
    both = sum(int((a[n] & b[n]).sum()) for n in a)
    either = sum(int((a[n] | b[n]).sum()) for n in a)
    return both / either if either else 1.0


def check_mask(model: nn.Module, mask: Mapping[str, Tensor]) -> None:
    """Raise `MaskError` with every reason why the mask is not one of this model."""
    weights = dict(model.named_parameters())
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
