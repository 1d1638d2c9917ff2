"""The work of each process of tests/test_processes.py: python -m torch.distributed.run ... processes_worker.py OUT."""

import sys
from dataclasses import replace
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn

from expunge import Classification, Compute, Split, TensorData, execute
from expunge.methods.boundary_expand import BoundaryExpand
from expunge.methods.finetune import FineTune
from expunge.methods.neg_grad_plus import NegGradPlus
from expunge.methods.nhle import NHLE
from expunge.methods.salun import SalUn
from expunge.methods.ssd import SSD

METHODS = {
    "finetune": FineTune(epochs=2, lr=0.1, batch_size=20),
    "salun": SalUn(epochs=2, lr=0.1, batch_size=20, relabel="next"),  # the labels of one process alone
    "clipped": NegGradPlus(epochs=2, lr=0.1, batch_size=20, clip=0.1, max_drop=101),
    "accumulated": SalUn(epochs=1, lr=0.1, batch_size=20, relabel="next", order="paired"),
    "mixed": SalUn(epochs=2, lr=0.1, batch_size=20, relabel="next", order="mixed"),
    "ssd": SSD(),
    "expand": BoundaryExpand(epochs=2, lr=0.05, batch_size=20, max_drop=101),
    "nhle": NHLE(epochs=300, lr=3e-3, samples=7, probe_every=1, trainable="all", max_drop=101),
}


def setting(name=""):
    draw = torch.Generator().manual_seed(0)
    y = torch.arange(240) % 3
    x = torch.randn(240, 8, generator=draw) + 2 * torch.eye(3, 8)[y]
    train, test = TensorData(x[:180], y[:180]), TensorData(x[180:], y[180:])
    split = Split.by_class(train, test, 1) if name == "nhle" else Split.random(train, test, 0.2, seed=0)
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 3)), split, Classification(3)


def weights(name, processes):
    """The weights and the curve that a method ends with."""
    model, split, task = setting(name)
    accumulate = 2 if name == "accumulated" else 1
    run = execute(
        model, split, METHODS[name], task, compute=Compute(processes=processes, accumulate=accumulate)
    )
    return {"weights": run.model.state_dict(), "mask": dict(run.mask or {}), "history": run.history}


def normed():
    """A model with batch norm: each process's weights and statistics after an epoch, and the run's first ones."""
    _, split, task = setting()
    torch.manual_seed(dist.get_rank())  # processes that start apart
    model = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, 3))
    method = replace(METHODS["finetune"], epochs=1)
    return execute(model, split, method, task, compute=Compute(processes=True)).model.state_dict()


if __name__ == "__main__":
    dist.init_process_group("gloo")
    found = {name: weights(name, True) for name in METHODS}
    torch.save({**found, "normed": normed()}, Path(sys.argv[1]) / f"{dist.get_rank()}.pt")
    dist.destroy_process_group()
