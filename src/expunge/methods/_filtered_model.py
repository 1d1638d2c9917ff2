"""A classifier whose filters are turned down by gates, a row of them for every class (see `wf_net`)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import ExpungeError

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


class FilteredModel(nn.Module):
    """A classifier with a row of gates for every class, of which one is switched on at run time.

    Args:
        model: The classifier. Its parameters are shared and do not get gradients.
        gates: {layer name: gates (K, filters)}.

    Example:
        >>> from expunge.methods.wf_net import FilteredModel, WFNet
        >>> run = execute(model, split, WFNet(), task)  # doctest: +SKIP
        >>> switched = FilteredModel(model, run.memo["gates"])  # doctest: +SKIP
        >>> switched.switch(3)(x)  # logits of a model that forgot class 3  # doctest: +SKIP
    """

    def __init__(self, model: nn.Module, gates: Mapping[str, Tensor]):
        super().__init__()
        self.model = model
        self.layers = list(gates)
        self.gates = nn.ParameterList([nn.Parameter(g.detach().clone()) for g in gates.values()])
        self.rows: Tensor | None = None

    def switch(self, *classes: int) -> FilteredModel:
        """Forget these classes from now on, or none, and return the model.

        Raises:
            ExpungeError: There is no gate for a class.
        """
        count = len(self.gates[0])
        if wrong := [c for c in classes if not 0 <= c < count]:
            raise ExpungeError(
                f"there are no gates for the classes {wrong}; give numbers from 0 to {count - 1}."
            )
        self.rows = torch.tensor(classes) if classes else None
        return self

    def values(self, rows: Tensor) -> dict[str, Tensor]:
        """Return the product of the gates of some rows, {layer name: (filters,)}."""
        return {n: g[rows].prod(0) for n, g in zip(self.layers, self.gates, strict=True)}

    def forward(self, *inputs: Any, per_sample: Tensor | None = None, **named: Any) -> Any:
        """Return what the model returns, with the gates of the switched classes, or of a row for each sample (B,)."""
        if per_sample is not None:
            gates = {n: g[per_sample] for n, g in zip(self.layers, self.gates, strict=True)}
        else:
            gates = {} if self.rows is None else {n: g[None] for n, g in self.values(self.rows).items()}
        with _scaled(self.model, gates):
            return self.model(*inputs, **named)


@contextmanager
def _scaled(model: nn.Module, gates: Mapping[str, Tensor]) -> Iterator[None]:
    """Multiply the outputs of layers by gates (B or 1, filters) inside the block."""
    modules = dict(model.named_modules())

    def scale(gate: Tensor) -> Any:
        def hook(module: nn.Module, _: Any, output: Tensor) -> Tensor:
            between = [1] * (output.ndim - 2)
            shape = (
                (*gate.shape, *between)
                if isinstance(module, CONVOLUTIONS)
                else (len(gate), *between, gate.shape[1])
            )
            return output * gate.view(shape).to(output.dtype)

        return hook

    hooks = [modules[name].register_forward_hook(scale(gate)) for name, gate in gates.items()]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
