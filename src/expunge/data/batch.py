"""A batch: samples on a device, converted and augmented there."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeAlias

import torch
from torch import Tensor

from ..errors import ExpungeError, raise_all

Inputs: TypeAlias = Tensor | dict[str, Tensor]
Augment: TypeAlias = Callable[[Tensor, torch.Generator], Tensor]


def each(x: Inputs, function: Callable[[Tensor], Tensor]) -> Inputs:
    """`function` of the input, or of each of several by name."""
    return {k: function(v) for k, v in x.items()} if isinstance(x, dict) else function(x)


def moved(t: Tensor, device: torch.device) -> Tensor:
    """`t` on `device`. On its way to a GPU it is pinned first: a copy from other memory waits for the GPU's queue."""
    if device.type == "cuda" and t.device.type == "cpu" and not t.is_pinned():
        t = t.pin_memory()
    return t.to(device, non_blocking=True)


@dataclass(slots=True)
class Batch:
    """Samples for one step: inputs `x` (B, ...) or a dict of them, labels `y` (B,), positions in their data (B,)."""

    x: Inputs
    y: Tensor
    index: Tensor

    def __len__(self) -> int:
        return len(self.y)

    @property
    def shape(self) -> tuple[Any, ...]:
        """The shape of one sample's input, or of each of its inputs by name."""
        if isinstance(self.x, dict):
            return tuple((k, tuple(v.shape[1:])) for k, v in sorted(self.x.items()))
        return tuple(self.x.shape[1:])

    def to(self, device: torch.device | str) -> Batch:
        """The same samples on `device`."""
        move = lambda t: moved(t, torch.device(device))  # noqa: E731
        return Batch(each(self.x, move), move(self.y), self.index)

    def part(self, keep: Tensor | slice) -> Batch:
        """The samples that `keep` picks: bool, positions, or a slice, which copies nothing."""
        if isinstance(keep, slice):
            return Batch(each(self.x, lambda t: t[keep]), self.y[keep], self.index[keep])
        at = keep.cpu()  # positions found here: a GPU would be waited for to count them
        at = at.nonzero()[:, 0] if at.dtype == torch.bool else at
        there = moved(at, self.y.device)
        return Batch(each(self.x, lambda t: t[there]), self.y[there], self.index[at])

    @staticmethod
    def join(*batches: Batch) -> Batch:
        """One batch of all the samples, in the order given."""
        first = batches[0].x
        if isinstance(first, dict):
            x: Inputs = {k: torch.cat([b.x[k] for b in batches]) for k in first}  # type: ignore[index]
        else:
            x = torch.cat([b.x for b in batches])  # type: ignore[misc]
        return Batch(x, torch.cat([b.y for b in batches]), torch.cat([b.index for b in batches]))


def as_float(x: Inputs) -> Inputs:
    """uint8 images (B, C, H, W) as float32 in [0, 1]; everything else as it is, a mask of bytes or a table too."""
    return each(x, lambda t: t.float().div_(255) if t.dtype == torch.uint8 and t.ndim > 3 else t)


@dataclass(frozen=True)
class CropFlip:
    """Random crop after zero padding, and horizontal flip, on whole batches (B, C, H, W) where they are."""

    pad: int = 4
    flip: bool = True

    def __call__(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """`x` with a shift of at most `pad` pixels and a fair-coin flip for each image, drawn from `generator` (CPU)."""
        n, _, h, w = x.shape
        draw = torch.randint(0, 2 * self.pad + 1, (2, n), generator=generator)
        coin = torch.randint(0, 2, (n,), generator=generator, dtype=torch.bool)
        top, left, turned = moved(torch.cat([draw, coin[None]]), x.device)  # one transfer
        rows = top[:, None] + torch.arange(h, device=x.device)  # (B, H)
        cols = left[:, None] + torch.arange(w, device=x.device)  # (B, W)
        if self.flip:
            cols = torch.where(turned[:, None] > 0, cols.flip(1), cols)
        padded = torch.nn.functional.pad(x, (self.pad,) * 4)
        # advanced indices around a slice put the indexed axes first: (B, H, W, C), which is channels_last storage
        return padded[
            torch.arange(n, device=x.device)[:, None, None], :, rows[:, :, None], cols[:, None, :]
        ].permute(0, 3, 1, 2)


@dataclass(frozen=True)
class Normalize:
    """Images in [0, 1] less `mean`, over `std`, a number of each for every channel: for models that expect it and do not do
    so inside. Raises `ExpungeError` for lengths that differ and for a `std` that is not above 0."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        for name in ("mean", "std"):
            object.__setattr__(self, name, tuple(float(v) for v in getattr(self, name)))
        problems = []
        if len(self.mean) != len(self.std):
            problems.append(
                f"the mean has {len(self.mean)} numbers, the std {len(self.std)}; give one a channel of each."
            )
        if not all(math.isfinite(m) for m in self.mean) or not all(0 < s < math.inf for s in self.std):
            problems.append(f"mean {self.mean} and std {self.std} must be finite, and the std above 0.")
        raise_all(problems, ExpungeError)

    def __call__(self, x: Tensor) -> Tensor:
        """`x` (B, C, ...) normalised, in its own memory."""
        mean, std = self._values(x)
        return x.sub_(mean).div_(std)

    def undo(self, x: Tensor) -> Tensor:
        """The images in [0, 1] that normalised ones (B, C, ...) were."""
        mean, std = self._values(x)
        return x * std + mean

    def _values(self, x: Tensor) -> tuple[Tensor, Tensor]:
        if x.ndim < 2 or x.shape[1] != len(self.mean) or not x.is_floating_point():
            raise ExpungeError(
                f"inputs are {x.dtype} of shape {tuple(x.shape[1:])} and the mean has {len(self.mean)} numbers; give images as "
                "uint8 or as floats, and one number a channel."
            )
        both = _constants((self.mean, self.std), x.dtype, x.device)
        return tuple(both.view(2, 1, -1, *[1] * (x.ndim - 2)))  # type: ignore[return-value]


@lru_cache(maxsize=16)
def _constants(values: tuple[tuple[float, ...], ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """A tensor of constants, copied to a device once: each copy would make a GPU's queue wait."""
    with torch.inference_mode(False):  # they outlive the block that asks first
        return torch.tensor(values, dtype=dtype, device=device)


def prepared(
    batch: Batch, transform: Augment | None, generator: torch.Generator | None, normalize: Normalize | None
) -> Batch:
    """The batch as a model takes it: augmented if there is a generator, images as numbers in [0, 1], or normalised."""
    if isinstance(batch.x, dict):
        if transform is not None or normalize is not None:
            raise ExpungeError(several(batch.x))
        batch.x = as_float(batch.x)
        return batch
    if transform is not None and generator is not None:
        # before the conversion: a quarter of the bytes to move; row-major, as models that take a view of it expect
        batch.x = transform(batch.x, generator).contiguous()
    given = batch.x
    x: Tensor = as_float(given)  # type: ignore[assignment]
    if normalize is not None:
        x = normalize(x.clone() if x is given else x)  # floats may be the data's own
    batch.x = x
    return batch


def several(x: Mapping[str, Tensor]) -> str:
    """Why inputs by name are neither augmented nor normalised."""
    return (
        f"augment and normalize change one tensor of images, and an input is several by name ({', '.join(x)}); "
        "leave them out, and prepare the inputs in your data or in the model."
    )
