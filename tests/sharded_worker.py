"""The work of each process of tests/test_sharded.py: python -m torch.distributed.run ... sharded_worker.py OUT."""

import sys
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from expunge import Classification, MaskError, TensorData, masked, saliency_mask
from expunge.masks.saliency import saliency_scores
from expunge.masks.sharded import ShardGroup, distributed_mask, distributed_scores

TASK = Classification(4)
DENSITIES = [0.1, 0.5, 0.93]


def model_and_samples():
    torch.manual_seed(0)
    # 7 and 5 rows do not divide by 2, and one bias has fewer rows than there are processes
    model = nn.Sequential(
        nn.Linear(6, 7), nn.Tanh(), nn.Linear(7, 5), nn.Tanh(), nn.Linear(5, 1), nn.Linear(1, 4)
    )
    return model, TensorData(torch.randn(53, 6), torch.arange(53) % 4).samples()


def train(model, samples, mask, part=lambda batch: batch, scale=1.0):
    """Six steps on batches of 24, of which each process takes a half; the gradient is that of the whole batch."""
    kind = torch.optim.SGD(model.parameters(), 0.2, momentum=0.9, weight_decay=0.01)
    with masked(kind, model, mask):
        for _ in range(3):
            for batch in samples.take(torch.arange(48)).batches(24):
                kind.zero_grad()
                (TASK.loss(model, part(batch)).mean() * scale).backward()
                kind.step()


def alone(densities=DENSITIES):
    """Scores, masks and trained weights of one process."""
    model, samples = model_and_samples()
    found = {"scores": saliency_scores(model, samples, TASK, batch_size=8)}
    found["masks"] = [dict(m) for m in saliency_mask(model, samples, TASK, densities)]
    train(model, samples, found["masks"][1])
    return {**found, "weights": {n: p.detach() for n, p in model.named_parameters()}}


def whole(parts, like):
    """The tensors of which every process holds some first rows (perhaps none)."""
    found = {}
    for name, part in parts.items():
        every = [None] * dist.get_world_size()
        dist.all_gather_object(every, part)
        found[name] = torch.cat([e.reshape(-1, *like[name].shape[1:]) for e in every])
    return found


def half(batch):
    rank, size = dist.get_rank(), dist.get_world_size()
    return batch.take(torch.arange(rank, len(batch), size))


def work(kind):
    model, samples = model_and_samples()
    like = {n: p.detach().clone() for n, p in model.named_parameters()}
    if kind == "fsdp":
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard

        mesh = init_device_mesh("cpu", (dist.get_world_size(),))
        for layer in (model[0], model[2]):
            fully_shard(layer, mesh=mesh)
        fully_shard(model, mesh=mesh)
        wrapped = model
        together = lambda tensors: whole(tensors, like)  # noqa: E731
    else:
        wrapped = DistributedDataParallel(model)
        together = lambda tensors: {n.removeprefix("module."): t for n, t in tensors.items()}  # noqa: E731
    found = {"scores": together(distributed_scores(wrapped, samples, TASK, batch_size=8))}
    masks = distributed_mask(wrapped, samples, TASK, DENSITIES, batch_size=8)
    found["masks"] = [together(m) for m in masks]
    found["density"] = int(ShardGroup().sum(torch.tensor([masks[1].count])))
    train(wrapped, samples, masks[1], half)
    local = {n: p.detach().to_local() if kind == "fsdp" else p.detach() for n, p in model.named_parameters()}
    found["weights"] = together(local)
    found["refused"] = refusal(wrapped, masks[1])
    return found


def refusal(model, mask):
    """What `masked` says to the mask of a smaller model."""
    try:
        with masked(torch.optim.SGD(model.parameters(), 0.1), model, dict(list(mask.items())[:-1])):
            return ""
    except MaskError as error:
        return str(error)


if __name__ == "__main__":
    dist.init_process_group("gloo")
    torch.save({kind: work(kind) for kind in ("ddp", "fsdp")}, Path(sys.argv[1]) / f"{dist.get_rank()}.pt")
    dist.destroy_process_group()
