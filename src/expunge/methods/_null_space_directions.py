"""Directions of retained features, layer by layer, and the projection of changes on the space that they leave free."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..data.samples import Samples
from ..errors import ModelError
from ..torch_utils.module_state import evaluating
from ..training.run import Run


def rows_of(module: nn.Linear | nn.Conv2d, x: Tensor) -> Tensor:
    """Return the inputs of a layer as rows (N, D) that its flattened weight multiplies.

    A last column of ones stands for the bias, if there is one.

    Args:
        module: A linear layer, or a convolution with one group.
        x: Its inputs.
    """
    if isinstance(module, nn.Conv2d):
        if isinstance(module.padding, str):
            raise ModelError(
                "null_space does not know the padding of a convolution by name; give it as numbers."
            )
        patches = F.unfold(x, module.kernel_size, module.dilation, module.padding, module.stride)  # type: ignore[arg-type]
        rows = patches.transpose(1, 2).flatten(0, 1)
    else:
        rows = x.flatten(0, -2)
    return rows if module.bias is None else torch.cat([rows, rows.new_ones(len(rows), 1)], 1)


def main_directions(square: Tensor, energy: float) -> Tensor:
    """Return U (D, m), the fewest eigenvectors of X^T X (D, D) that hold the share `energy` of its trace."""
    values, vectors = torch.linalg.eigh(square.double())
    values = values.flip(0).clamp_min(0)
    share = values.cumsum(0) / values.sum().clamp_min(1e-30)
    # a sum of all shares may be 1 only up to rounding
    count = int((share < energy - 1e-12).sum()) + 1
    return vectors.flip(1)[:, : min(count, len(values))]


def constrained_layers(model: nn.Module) -> dict[str, nn.Linear | nn.Conv2d]:
    """Return the layers whose changes can be projected, by name.

    Raises:
        ModelError: The model has none.
    """
    parameters = dict(model.named_parameters())
    layers = {
        name: module
        for name, module in model.named_modules()
        if (isinstance(module, nn.Linear) or (isinstance(module, nn.Conv2d) and module.groups == 1))
        and (f"{name}.weight" if name else "weight") in parameters
    }
    if not layers:
        raise ModelError(
            "null_space projects convolutions and linear layers, and the model has none; leave it out."
        )
    return layers


@torch.no_grad()
def retained_directions(run: Run, samples: Samples, energy: float) -> dict[str, Tensor]:
    """Return U of each layer of the original on some samples, by layer name. Layers that are not used have none."""
    squares: dict[str, Tensor] = {}
    with _recording(run.original, squares), evaluating(run.original):
        # patches of a convolution take many times the memory of its inputs
        for batch in samples.batches(64, device=run.device):
            run.task.loss(run.original, batch)
    return {name: main_directions(square, energy) for name, square in squares.items()}


@contextmanager
def _recording(model: nn.Module, squares: dict[str, Tensor]) -> Iterator[None]:
    """Add X^T X of the inputs of each layer to `squares` while the block runs."""

    def hook(name: str, module: Any) -> Any:
        def record(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            rows = rows_of(module, inputs[0].detach()).double()
            squares[name] = squares.get(name, 0) + rows.T @ rows

        return record

    hooks = [m.register_forward_pre_hook(hook(n, m)) for n, m in constrained_layers(model).items()]
    try:
        yield
    finally:
        for handle in hooks:
            handle.remove()


@torch.no_grad()
def project(run: Run, directions: dict[str, Tensor]) -> None:
    """Project the change of the model since the original, in place."""
    new, old = dict(run.model.named_parameters()), dict(run.original.named_parameters())
    projected: set[str] = set()
    for name, u in directions.items():
        weight, bias = (f"{name}.{part}" if name else part for part in ("weight", "bias"))
        parts = [(new[n] - old[n]).reshape(len(new[n]), -1) for n in (weight, bias) if n in new]
        change, u = torch.cat(parts, 1).double(), u.to(new[weight].device)
        # all directions are protected: no rounding may move a weight
        change = change * 0 if u.shape[1] == len(u) else change - change @ u @ u.T
        _move(new[weight], old[weight], change[:, : new[weight][0].numel()].reshape(new[weight].shape))
        if bias in new:
            _move(new[bias], old[bias], change[:, -1])
        projected |= {weight, bias}
    for name in new.keys() - projected:
        new[name].copy_(old[name])


def _move(parameter: Tensor, original: Tensor, change: Tensor) -> None:
    if parameter.requires_grad:
        moved = (original.double() + change).to(parameter.dtype)
        # a sum with 0 would turn a weight of -0.0 into 0.0
        parameter.copy_(torch.where(change == 0, original, moved))
