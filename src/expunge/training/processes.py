"""Divide one run among several processes of `torchrun`: each step's batch is divided, and the gradients are summed.

Every process holds the whole model, draws the same batches and takes every n-th piece of each (n processes). So a step equals that
of one process, up to rounding from another order of sums. Some quantities are computed over the process's own pieces instead of the
whole batch:

- batch norm, as under DistributedDataParallel; its running statistics are averaged
- the adaptive gate of UGradSL and the mean of TARF
- the mean over a forget side whose few samples do not divide (`schedule.pieces`)

Random labels and noise are drawn per process, so they are equal in distribution and not in bits.
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
from ..torch_utils.random_state import seed_torch

# maximum number of elements in one message of gradients
BUCKET = 1 << 25


class ProcessGroup:
    """The processes that share a run. With one process, all its methods do nothing.

    Args:
        shared: Whether the run is divided among the processes of torch.distributed's default group.

    Raises:
        ExpungeError: `shared` is set and no process group exists.
    """

    def __init__(self, shared: bool = False):
        if shared and not (dist.is_available() and dist.is_initialized()):
            raise ExpungeError(
                "processes is set, but there is no process group; start the command with torchrun, or call "
                "torch.distributed.init_process_group first in your own program."
            )
        self.rank, self.size = (dist.get_rank(), dist.get_world_size()) if shared else (0, 1)

    def broadcast(self, model: nn.Module) -> None:
        """Give every process the parameters and buffers of the first one."""
        if self.size > 1:
            for t in model.state_dict().values():
                dist.broadcast(t, 0)

    def seed_epoch(self, seed: int, epoch: int) -> None:
        """Give each process its own random stream for an epoch. The first one keeps the stream of a run in one process."""
        if self.rank:
            text = f"{seed}/{epoch}/{self.rank}".encode()
            seed_torch(int.from_bytes(hashlib.sha256(text).digest()[:7], "big"))

    def sum(self, tensor: Tensor) -> Tensor:
        """Sum a tensor over the processes, in place."""
        if self.size > 1:
            dist.all_reduce(tensor)
        return tensor

    def mean(self, tensors: list[Tensor], device: torch.device) -> float | None:
        """Return the mean of all values of all processes, the same number in each; None if there are no values."""
        values = torch.cat(tensors).cpu().double() if tensors else torch.zeros(0, dtype=torch.float64)
        total_and_count = torch.stack([values.sum(), values.new_tensor(len(values))])
        if self.size > 1:
            total_and_count = self.sum(total_and_count.to(device))
        total, count = total_and_count.tolist()
        return total / count if count else None

    def share(self, samples: Samples) -> Samples:
        """Return the samples that this process evaluates."""
        return samples if self.size == 1 else samples.take(torch.arange(self.rank, len(samples), self.size))

    def sum_gradients(self, model: nn.Module) -> None:
        """Sum every gradient over the processes. A gradient that no process has stays None: its parameter does not move."""
        if self.size > 1:
            for bucket in _buckets([p for p in model.parameters() if p.requires_grad]):
                _sum_bucket(bucket)

    def average_buffers(self, model: nn.Module) -> None:
        """Average the floating-point buffers over the processes, such as the statistics of batch norm.

        Running means are linear in their inputs. So averaging before each evaluation gives the same as averaging at each step.
        """
        buffers = [b for b in model.buffers() if b.is_floating_point()] if self.size > 1 else []
        if buffers:
            flat = torch.cat([b.flatten() for b in buffers])
            dist.all_reduce(flat)
            for b, total in zip(buffers, flat.split([b.numel() for b in buffers]), strict=True):
                b.copy_((total / self.size).view_as(b))


def _buckets(parameters: list[nn.Parameter]) -> Iterator[list[nn.Parameter]]:
    """Group parameters of one type and device, up to `BUCKET` elements. A message costs more than its content."""
    groups: dict[object, list[nn.Parameter]] = {}
    for parameter in parameters:
        groups.setdefault((parameter.dtype, parameter.device), []).append(parameter)
    for group in groups.values():
        bucket: list[nn.Parameter] = []
        for parameter in group:
            if bucket and sum(p.numel() for p in bucket) + parameter.numel() > BUCKET:
                yield bucket
                bucket = []
            bucket.append(parameter)
        yield bucket


def _sum_bucket(parameters: list[nn.Parameter]) -> None:
    """Sum the gradients of a bucket in one message that also says which gradients this process has."""
    has_gradient = [p.grad is not None for p in parameters]
    gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
    all_present = all(has_gradient)
    flags = gradients[0].new_ones(len(parameters)) if all_present else gradients[0].new_tensor(has_gradient)
    flat = torch.cat([*(g.reshape(-1) for g in gradients), flags])
    dist.all_reduce(flat)
    *sums, counts = flat.split([*(g.numel() for g in gradients), len(parameters)])
    # reading the counts waits for a GPU, so read them only where a gradient is missing
    any_process_has = has_gradient if all_present else (counts > 0).tolist()
    for parameter, gradient, total, present in zip(parameters, gradients, sums, any_process_has, strict=True):
        parameter.grad = gradient.copy_(total.view_as(gradient)) if present else None


def join_torchrun() -> bool:
    """Join the process group if `torchrun` started this process with several. Return whether it did.

    "cuda" then means the GPU of this process's local rank.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return False
    if not dist.is_initialized():
        local_rank = int(os.environ.get("LOCAL_RANK", "0"))
        # more processes than GPUs may share a run on the CPU
        if local_rank < torch.cuda.device_count():
            torch.cuda.set_device(local_rank)
        # uses gloo for tensors on the CPU and NCCL for tensors on a GPU
        dist.init_process_group()
    return True


def is_first_process() -> bool:
    """Whether this process is the one that writes files and prints."""
    return not (dist.is_available() and dist.is_initialized()) or dist.get_rank() == 0
