"""One run over several processes of `torchrun`: each step's batch is divided among them, and their gradients are summed.

Every process holds the whole model, draws the same batches and takes every size-th piece of each, so the step is that of
one process up to the rounding of sums in another order. What a loss takes from its whole batch it takes from the process's
own piece: batch norm (as under DistributedDataParallel; its running statistics are averaged), UGradSL's adaptive gate, TARF's
mean, the mean over a forget side whose few samples do not divide (`schedule.pieces`). Random labels and noise are drawn per
process: equal in law, not in bits.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator

import torch
import torch.distributed as dist
from torch import Tensor, nn

from ..data.samples import Samples
from ..errors import ExpungeError

BUCKET = 1 << 25  # numbers in a message of gradients


class Team:
    """The processes that share a run; of one process, it does nothing."""

    def __init__(self, shared: bool = False):
        if shared and not (dist.is_available() and dist.is_initialized()):
            raise ExpungeError(
                "processes is on, but there is no process group: start with `torchrun`, and in a program of your own call "
                "torch.distributed.init_process_group first."
            )
        self.rank, self.size = (dist.get_rank(), dist.get_world_size()) if shared else (0, 1)

    def begin(self, model: nn.Module) -> None:
        """Give every process the first one's weights and buffers."""
        if self.size > 1:
            for t in model.state_dict().values():
                dist.broadcast(t, 0)

    def epoch(self, seed: int, number: int) -> None:
        """A random stream of its own for each process but the first, which draws as one alone would."""
        if self.rank:
            text = f"{seed}/{number}/{self.rank}".encode()
            torch.manual_seed(int.from_bytes(hashlib.sha256(text).digest()[:7], "big"))

    def sum(self, value: Tensor) -> Tensor:
        """`value` summed over the processes, in place."""
        if self.size > 1:
            dist.all_reduce(value)
        return value

    def mean(self, mine: list[Tensor], device: torch.device) -> float | None:
        """The mean of all values that the processes hold, the same number in each; None where there is none."""
        values = torch.cat(mine).cpu().double() if mine else torch.zeros(0, dtype=torch.float64)
        found = torch.stack([values.sum(), values.new_tensor(len(values))])
        if self.size > 1:
            found = self.sum(found.to(device))
        total, count = found.tolist()
        return total / count if count else None

    def share(self, samples: Samples) -> Samples:
        """The part of `samples` that this process looks at."""
        return samples if self.size == 1 else samples.take(torch.arange(self.rank, len(samples), self.size))

    def sum_gradients(self, model: nn.Module) -> None:
        """Every gradient summed over the processes; one that no process has stays None, so that its weight rests."""
        if self.size > 1:
            for bucket in _buckets([p for p in model.parameters() if p.requires_grad]):
                _sum_bucket(bucket)

    def average_buffers(self, model: nn.Module) -> None:
        """The mean over the processes of what layers count along the way, such as batch norm's statistics.

        Running means are linear in what they saw: averaged before each look they are what they would be averaged at each step.
        """
        buffers = [b for b in model.buffers() if b.is_floating_point()] if self.size > 1 else []
        if buffers:
            together = torch.cat([b.flatten() for b in buffers])
            dist.all_reduce(together)
            for b, mean in zip(buffers, together.split([b.numel() for b in buffers]), strict=True):
                b.copy_((mean / self.size).view_as(b))


def _buckets(weights: list[nn.Parameter]) -> Iterator[list[nn.Parameter]]:
    """Weights of one kind together, up to `BUCKET` numbers: a message costs more than what is in it."""
    kinds: dict[object, list[nn.Parameter]] = {}
    for weight in weights:
        kinds.setdefault((weight.dtype, weight.device), []).append(weight)
    for same in kinds.values():
        bucket: list[nn.Parameter] = []
        for weight in same:
            if bucket and sum(w.numel() for w in bucket) + weight.numel() > BUCKET:
                yield bucket
                bucket = []
            bucket.append(weight)
        yield bucket


def _sum_bucket(weights: list[nn.Parameter]) -> None:
    """One message: the gradients, and for each whether this process has one."""
    mine = [w.grad is not None for w in weights]
    parts = [torch.zeros_like(w) if w.grad is None else w.grad for w in weights]
    there = parts[0].new_ones(len(mine)) if all(mine) else parts[0].new_tensor(mine)
    flat = torch.cat([*(p.reshape(-1) for p in parts), there])
    dist.all_reduce(flat)
    *sums, counts = flat.split([*(p.numel() for p in parts), len(mine)])
    some = mine if all(mine) else (counts > 0).tolist()  # a GPU is waited for only where one is missing
    for weight, part, total, any_has in zip(weights, parts, sums, some, strict=True):
        weight.grad = part.copy_(total.view_as(part)) if any_has else None


def from_torchrun() -> bool:
    """Join the other processes if this one was started by `torchrun` with several; True if it was.

    "cuda" then means the GPU of this process's local rank.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return False
    if not dist.is_initialized():
        own = int(os.environ.get("LOCAL_RANK", "0"))
        if own < torch.cuda.device_count():  # more processes than GPUs may share a run on the CPU
            torch.cuda.set_device(own)
        dist.init_process_group()  # gloo for tensors on the CPU, NCCL for those on a GPU
    return True


def first() -> bool:
    """Whether this process is the one that writes and prints."""
    return not (dist.is_available() and dist.is_initialized()) or dist.get_rank() == 0
