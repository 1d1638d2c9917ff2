"""Masks in a run of several processes (`torchrun`): saliency summed over them, selection exact across their shards.

Works with DistributedDataParallel (every process holds all weights) and with FSDP2, `fully_shard` (every process holds a
part of each weight); `masked` and the optimizer then do as in one process. Every process must make the same calls.
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
from ..torch_utils.module_state import device_of, evaluating
from .mask import complete, top_mask
from .mask_file import Mask
from .saliency import saliency_scores


class Processes:
    """The processes of a group as `topk.Shards`: what they exchange are counts, never values."""

    def __init__(self, group: dist.ProcessGroup | None = None):
        self.group = group
        self.rank, self.size = dist.get_rank(group), dist.get_world_size(group)
        # NCCL moves tensors on a GPU only
        self.device = torch.device("cuda" if dist.get_backend(group) == "nccl" else "cpu")

    def sum(self, counts: Tensor) -> Tensor:
        """The elementwise sum over all processes, on the CPU."""
        total = counts.to(self.device, copy=True)
        dist.all_reduce(total, group=self.group)
        return total.cpu()

    def gather(self, counts: Tensor) -> Tensor:
        """Every process's `counts` (T,), stacked in the order of the ranks: (R, T), on the CPU."""
        own = counts.to(self.device)
        every = [torch.empty_like(own) for _ in range(self.size)]
        dist.all_gather(every, own, group=self.group)
        return torch.stack(every).cpu()

    def share(self, samples: Samples) -> tuple[Samples, Tensor]:
        """This process's samples, as many as every other's, and their weights: 0 for those repeated to fill up."""
        per = -(-len(samples) // self.size)
        place = torch.arange(self.rank, per * self.size, self.size)
        return samples.take(place % len(samples)), (place < len(samples)).float()


def is_sharded(model: nn.Module) -> bool:
    """Whether FSDP2 has cut the model's weights over the processes."""
    return any(hasattr(p, "to_local") for p in model.parameters())


def distributed_scores(
    model: nn.Module,
    samples: Samples,
    task: Task,
    *,
    batch_size: int = 256,
    group: dist.ProcessGroup | None = None,
    **options: Any,
) -> dict[str, Tensor]:
    """`saliency.saliency_scores` with the samples divided among the processes; every process is given all of them. `options`
    are those of `saliency_scores`, where weights are not cut.

    For a sharded model, the scores of this process's part of each weight. Names are those of the model given
    (a DistributedDataParallel one may be given wrapped or not). Equal to one process's up to the rounding of sums
    in another order. Raises `ModelError` where weights are cut along another dimension than the first.
    """
    processes = Processes(group)
    if is_sharded(model):
        return _sharded_scores(model, samples, task, batch_size, processes)
    inner, prefix = (model.module, "module.") if isinstance(model, DistributedDataParallel) else (model, "")
    own = samples.take(torch.arange(processes.rank, len(samples), processes.size))

    def reduce(mean: Tensor) -> Tensor:
        total = mean * (len(own) / len(samples))
        dist.all_reduce(total, group=group)
        return total

    found = saliency_scores(inner, own, task, batch_size=batch_size, reduce=reduce, **options)
    return {prefix + n: s for n, s in found.items()}


def _sharded_scores(
    model: nn.Module, samples: Samples, task: Task, batch_size: int, processes: Processes
) -> dict[str, Tensor]:
    weights = {n: p for n, p in model.named_parameters() if p.requires_grad}
    _check_cuts(weights)
    before = {n: p.grad for n, p in weights.items()}
    own, weight = processes.share(samples)
    weight = weight.to(device_of(model))  # once: moved batch by batch, it would make each wait for a GPU
    try:
        for p in weights.values():
            p.grad = None
        with evaluating(model):
            start = 0
            for batch in own.batches(batch_size, device=device_of(model)):
                losses = task.loss(model, batch)
                share = weight[start : start + len(batch)].to(losses.dtype)
                start += len(batch)
                # FSDP2 averages gradients over the processes: times their number, it is the sum
                ((losses * share).sum() * processes.size / len(samples)).backward()
        return {n: _part(p).abs().float() for n, p in weights.items()}
    finally:
        for n, p in weights.items():
            p.grad = before[n]


def _part(weight: Tensor) -> Tensor:
    found = weight if weight.grad is None else weight.grad
    part: Tensor = found.detach().to_local()  # type: ignore[attr-defined]
    return torch.zeros_like(part) if weight.grad is None else part


def _check_cuts(weights: dict[str, nn.Parameter]) -> None:
    odd = [
        n
        for n, p in weights.items()
        if not hasattr(p, "placements") or len(p.placements) != 1 or not p.placements[0].is_shard(0)
    ]
    if odd:
        raise ModelError(
            f"{len(odd)} weights are not cut along their first dimension over one group (first: {odd[:3]}); "
            "use fully_shard on the whole model over a one-dimensional mesh."
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
    """`mask.saliency_mask` over several processes: exactly round(density * N) weights of the whole model are true.

    For a sharded model, each process gets the mask of its part; `masked` takes it as it is.
    """
    scores = distributed_scores(model, samples, task, batch_size=batch_size, group=group)
    wanted = [density] if isinstance(density, int | float) else list(density)
    shards = Processes(group) if is_sharded(model) else None
    made = [complete(m, model) for m in top_mask(scores, wanted, shards)]
    return made[0] if isinstance(density, int | float) else made
