"""Make masks in a run of several processes (`torchrun`): saliency summed over processes, exact selection across shards.

This works with DistributedDataParallel, where every process holds all parameters, and with FSDP2 (`fully_shard`), where every
process holds a part of each parameter. `masked` and the optimizer then work as in one process. Every process must make the
same calls.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, overload

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ..data.samples import Samples
from ..errors import ModelError
from ..tasks.task import Task
from ..torch_utils.gradients import with_gradients
from ..torch_utils.module_state import device_of, evaluating
from .mask import complete, top_mask
from .mask_file import Mask
from .saliency import saliency_scores


class ShardGroup:
    """The processes of a group as `topk.Shards`. They exchange counts, never values.

    Args:
        group: The process group; None for the default one.
    """

    def __init__(self, group: dist.ProcessGroup | None = None):
        self.group = group
        self.rank, self.size = dist.get_rank(group), dist.get_world_size(group)
        # NCCL only moves tensors on a GPU
        self.device = torch.device("cuda" if dist.get_backend(group) == "nccl" else "cpu")

    def sum(self, counts: Tensor) -> Tensor:
        """Return the elementwise sum over all processes, on the CPU."""
        total = counts.to(self.device, copy=True)
        dist.all_reduce(total, group=self.group)
        return total.cpu()

    def gather(self, counts: Tensor) -> Tensor:
        """Return the `counts` (T,) of all processes, stacked in the order of the ranks: (R, T), on the CPU."""
        local = counts.to(self.device)
        by_rank = [torch.empty_like(local) for _ in range(self.size)]
        dist.all_gather(by_rank, local, group=self.group)
        return torch.stack(by_rank).cpu()

    def share(self, samples: Samples) -> tuple[Samples, Tensor]:
        """Return the same number of samples for every process, and their weights: 0 for samples repeated to fill up."""
        count = -(-len(samples) // self.size)
        positions = torch.arange(self.rank, count * self.size, self.size)
        return samples.take(positions % len(samples)), (positions < len(samples)).float()


def is_sharded(model: nn.Module) -> bool:
    """Whether FSDP2 has sharded the parameters of the model."""
    return any(hasattr(p, "to_local") for p in model.parameters())


@with_gradients
def distributed_scores(
    model: nn.Module,
    samples: Samples,
    task: Task,
    *,
    batch_size: int = 256,
    group: dist.ProcessGroup | None = None,
    **options: Any,
) -> dict[str, Tensor]:
    """Compute `saliency_scores` with the samples divided among the processes.

    The result equals that of one process, up to rounding from another order of sums.

    Args:
        model: The model. A DistributedDataParallel model may be wrapped or not; the names are those of the model you pass.
        samples: All samples, the same in every process.
        task: The task of the model.
        batch_size: Number of samples per batch.
        group: The process group; None for the default one.
        **options: Options of `saliency_scores`, for models that are not sharded.

    Returns:
        {parameter name: scores}. For a sharded model, the scores of this process's part of each parameter.

    Raises:
        ModelError: Parameters are sharded along another dimension than the first.
    """
    shard_group = ShardGroup(group)
    if is_sharded(model):
        return _sharded_scores(model, samples, task, batch_size, shard_group)
    inner, prefix = (model.module, "module.") if isinstance(model, DistributedDataParallel) else (model, "")
    local_samples = samples.take(torch.arange(shard_group.rank, len(samples), shard_group.size))

    def reduce(mean: Tensor) -> Tensor:
        total = mean * (len(local_samples) / len(samples))
        dist.all_reduce(total, group=group)
        return total

    scores = saliency_scores(inner, local_samples, task, batch_size=batch_size, reduce=reduce, **options)
    return {prefix + n: s for n, s in scores.items()}


def _sharded_scores(
    model: nn.Module, samples: Samples, task: Task, batch_size: int, shard_group: ShardGroup
) -> dict[str, Tensor]:
    parameters = {n: p for n, p in model.named_parameters() if p.requires_grad}
    _check_shards(parameters)
    gradients_before = {n: p.grad for n, p in parameters.items()}
    local_samples, weights = shard_group.share(samples)
    # moved once: moved batch by batch, each batch would wait for the GPU
    weights = weights.to(device_of(model))
    try:
        for p in parameters.values():
            p.grad = None
        with evaluating(model):
            start = 0
            for batch in local_samples.batches(batch_size, device=device_of(model)):
                losses = task.loss(model, batch)
                batch_weights = weights[start : start + len(batch)].to(losses.dtype)
                start += len(batch)
                # FSDP2 averages gradients over the processes: times their number, it is the sum
                ((losses * batch_weights).sum() * shard_group.size / len(samples)).backward()
        return {n: _local_gradient(p).abs().float() for n, p in parameters.items()}
    finally:
        for n, p in parameters.items():
            p.grad = gradients_before[n]


def _local_gradient(parameter: Tensor) -> Tensor:
    tensor = parameter if parameter.grad is None else parameter.grad
    part: Tensor = tensor.detach().to_local()  # type: ignore[attr-defined]
    return torch.zeros_like(part) if parameter.grad is None else part


def _check_shards(parameters: dict[str, nn.Parameter]) -> None:
    unsupported = [
        n
        for n, p in parameters.items()
        if not hasattr(p, "placements") or len(p.placements) != 1 or not p.placements[0].is_shard(0)
    ]
    if unsupported:
        raise ModelError(
            f"{len(unsupported)} parameters are not sharded along their first dimension over one group (first: {unsupported[:3]}); "
            "use fully_shard on the whole model with a one-dimensional mesh."
        )


@overload
def distributed_mask(
    model: nn.Module,
    samples: Samples,
    task: Task,
    density: float = 0.5,
    *,
    batch_size: int = 256,
    group: dist.ProcessGroup | None = None,
) -> Mask: ...
@overload
def distributed_mask(
    model: nn.Module,
    samples: Samples,
    task: Task,
    density: Sequence[float],
    *,
    batch_size: int = 256,
    group: dist.ProcessGroup | None = None,
) -> list[Mask]: ...
def distributed_mask(
    model: nn.Module,
    samples: Samples,
    task: Task,
    density: float | Sequence[float] = 0.5,
    *,
    batch_size: int = 256,
    group: dist.ProcessGroup | None = None,
) -> Mask | list[Mask]:
    """Make a saliency mask over several processes, with exactly round(density * N) elements of the whole model true.

    Args:
        model: The model, plain, DistributedDataParallel or sharded.
        samples: All samples, the same in every process.
        task: The task of the model.
        density: Share of the parameters that may move, from 0 to 1. Several densities give a list of masks from one pass.
        batch_size: Number of samples per batch.
        group: The process group; None for the default one.

    Returns:
        The mask. For a sharded model, the mask of this process's part; pass it to `masked` unchanged.

    Raises:
        ModelError: Parameters are sharded along another dimension than the first.
    """
    scores = distributed_scores(model, samples, task, batch_size=batch_size, group=group)
    densities = [density] if isinstance(density, int | float) else list(density)
    shards = ShardGroup(group) if is_sharded(model) else None
    masks = [complete(m, model) for m in top_mask(scores, densities, shards)]
    return masks[0] if isinstance(density, int | float) else masks
