"""The work of each process of tests/test_prepared.py: python -m torch.distributed.run ... accelerate_worker.py OUT."""

import sys
from pathlib import Path

import torch
import torch.distributed as dist
from accelerate import Accelerator
from torch import nn

from expunge import Classification, ModelError, SalUn, Split, masked, saliency_mask, unlearn

TASK = Classification(4)


def problem():
    torch.manual_seed(0)
    x, y = torch.randn(48, 6), torch.arange(48) % 4
    split = Split.by_class((x[:40], y[:40]), (x[40:], y[40:]), [1], validation=0)
    return nn.Sequential(nn.Linear(6, 7), nn.Tanh(), nn.Linear(7, 4)), split


def refusal(split):
    """What `unlearn` says to a model that fully_shard has sharded."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    model = problem()[0]
    fully_shard(model, mesh=init_device_mesh("cpu", (dist.get_world_size(),)))
    try:
        unlearn(model, split, SalUn(epochs=1, batch_size=8), TASK)
    except ModelError as error:
        return str(error)
    return ""


def work():
    accelerator = Accelerator(cpu=True)
    model, split = problem()
    optimizer = torch.optim.AdamW(model.parameters(), 0.05, weight_decay=0.1)
    prepared, stepper = accelerator.prepare(model, optimizer)
    mask = saliency_mask(prepared, split.forget, TASK, 0.1)
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    batch = next(split.retain.batches(24))
    half = batch.take(torch.arange(accelerator.process_index, len(batch), 2))
    with masked(stepper, prepared, mask):
        for _ in range(3):
            stepper.zero_grad()
            accelerator.backward(nn.functional.cross_entropy(prepared(half.x), half.y))
            stepper.step()
    moved = {n: p.detach() != before[n] for n, p in model.named_parameters()}
    method = SalUn(epochs=1, batch_size=8)
    ours, plain = (unlearn(m, split, method, TASK, mask=mask) for m in (prepared, model))
    return {
        "wrapper": type(prepared).__name__,
        "fully_frozen": sum(not m.any() for m in mask.values()),
        "free": mask.count,
        "moved": sum(int(m.sum()) for m in moved.values()),
        "outside": sum(int((m & ~mask[n]).sum()) for n, m in moved.items()),
        "same_as_plain": all(
            torch.equal(a, b) for a, b in zip(ours.parameters(), plain.parameters(), strict=True)
        ),
        "refused": refusal(split),
    }


if __name__ == "__main__":
    found = work()
    torch.save(found, Path(sys.argv[1]) / f"{dist.get_rank()}.pt")
    dist.destroy_process_group()
