"""Batches: samples on a device, converted, augmented and normalised there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor

Inputs: TypeAlias = Tensor | dict[str, Tensor]
Augment: TypeAlias = Callable[[Tensor, torch.Generator], Tensor]


def map_inputs(x: Inputs, function: Callable[[Tensor], Tensor]) -> Inputs:
    """Apply `function` to the input tensor, or to each tensor of a dict."""
    return {name: function(t) for name, t in x.items()} if isinstance(x, dict) else function(x)


def to_device(t: Tensor, device: torch.device) -> Tensor:
    """Copy `t` to `device` without waiting for the device's queue."""
    # A copy from memory that is not pinned waits for all queued work of the GPU.
    if device.type == "cuda" and t.device.type == "cpu" and not t.is_pinned():
        t = t.pin_memory()
    return t.to(device, non_blocking=True)


@dataclass(slots=True)
class Batch:
    """The samples of one step.

    Args:
        x: Inputs (B, ...), or a dict of such tensors.
        y: Labels (B,), or the conditions of a diffusion model.
        index: Positions (B,) of the samples in their `Data`, on the CPU.
    """

    x: Inputs
    y: Tensor
    index: Tensor

    def __repr__(self) -> str:
        x = (
            {k: tuple(v.shape) for k, v in self.x.items()}
            if isinstance(self.x, dict)
            else tuple(self.x.shape)
        )
        return f"Batch({len(self.index)} samples, x {x}, y {tuple(self.y.shape)}, on {self.y.device})"[:1000]

    def __len__(self) -> int:
        return len(self.y)

    @property
    def shape(self) -> tuple[Any, ...]:
        """The shape of one input, or pairs (name, shape) if a sample has several inputs."""
        if isinstance(self.x, dict):
            return tuple((name, tuple(t.shape[1:])) for name, t in sorted(self.x.items()))
        return tuple(self.x.shape[1:])

    def to(self, device: torch.device | str) -> Batch:
        """Return the batch on `device`. The positions stay on the CPU."""
        move = lambda t: to_device(t, torch.device(device))  # noqa: E731
        return Batch(map_inputs(self.x, move), move(self.y), self.index)

    def take(self, which: Tensor | slice) -> Batch:
        """Return some samples of the batch.

        Args:
            which: A bool tensor (B,), positions in the batch, or a slice. A slice copies nothing.
        """
        if isinstance(which, slice):
            return Batch(map_inputs(self.x, lambda t: t[which]), self.y[which], self.index[which])
        # Count on the CPU: on a GPU the count would wait for all queued work.
        positions = which.cpu()
        positions = positions.nonzero()[:, 0] if positions.dtype == torch.bool else positions
        on_device = to_device(positions, self.y.device)
        return Batch(map_inputs(self.x, lambda t: t[on_device]), self.y[on_device], self.index[positions])

    @staticmethod
    def join(*batches: Batch) -> Batch:
        """Return one batch with the samples of all `batches`, in the given order."""
        first = batches[0].x
        if isinstance(first, dict):
            x: Inputs = {name: torch.cat([b.x[name] for b in batches]) for name in first}  # type: ignore[index]
        else:
            x = torch.cat([b.x for b in batches])  # type: ignore[misc]
        return Batch(x, torch.cat([b.y for b in batches]), torch.cat([b.index for b in batches]))
