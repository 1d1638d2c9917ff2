"""Read what each layer of a model gives for some samples: its blocks in the order of the forward pass."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ..data.samples import Samples
from ..tasks.task import Task
from ..torch_utils.module_state import device_of, evaluating

# Outputs with more values per sample are averaged over their positions.
LARGEST = 1024


def blocks_of(model: nn.Module) -> dict[str, nn.Module]:
    """Return the blocks of a model by name: the children with parameters of the first module that has several.

    Args:
        model: The model. A module that only wraps one other module with parameters is looked through.
    """
    prefix = ""
    while True:
        children = {
            f"{prefix}{name}": child
            for name, child in model.named_children()
            if next(child.parameters(), None) is not None
        }
        if len(children) != 1:
            return children
        (prefix, model), *_ = ((f"{name}.", child) for name, child in children.items())
        if not list(model.children()):
            return children


@torch.no_grad()
def layer_outputs(
    model: nn.Module, samples: Samples, task: Task, *, batch_size: int = 256
) -> dict[str, Tensor]:
    """Return the output of each block in eval mode, without the last block, which is the head.

    Args:
        model: The model. It is not changed.
        samples: The samples (N).
        task: The task of the model. It must offer "logits".
        batch_size: Number of samples in one forward pass.

    Returns:
        {block: values (N, D)}, float32 on the CPU, in the order of the forward pass. Outputs that are no tensor of one
        row per sample are left out. Outputs with more than 1024 values per sample are averaged over their positions.
    """
    rows: dict[str, list[Tensor]] = {}
    batches = 0
    with evaluating(model), _recording(blocks_of(model)) as seen:
        for batch in samples.batches(batch_size, device=device_of(model)):
            seen.clear()
            task.logits(model, batch.x)
            batches += 1
            for name, value in seen.items():
                if value.ndim > 1 and len(value) == len(batch.y):
                    rows.setdefault(name, []).append(_flat(value).float().cpu())
    last = next(reversed(seen), None)
    return {n: torch.cat(parts) for n, parts in rows.items() if n != last and len(parts) == batches}


@contextmanager
def _recording(blocks: dict[str, nn.Module]) -> Iterator[dict[str, Tensor]]:
    """Record the output of each block's last call inside the block, in the order of these calls."""
    seen: dict[str, Tensor] = {}

    def hook_of(name: str) -> Any:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            if isinstance(output, Tensor):
                seen.pop(name, None)
                seen[name] = output.detach()

        return hook

    handles = [block.register_forward_hook(hook_of(name)) for name, block in blocks.items()]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def _flat(value: Tensor) -> Tensor:
    """Return values (N, D). Large outputs (N, C, ...) and sequences (N, T, D) are averaged over positions."""
    if value[0].numel() <= LARGEST or value.ndim == 2:
        return value.flatten(1)
    return value.mean(1) if value.ndim == 3 else value.flatten(2).mean(2)
