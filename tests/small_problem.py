"""A random classifier in double precision and 60 training samples of 4 classes, for tests of formulas."""

from __future__ import annotations

import copy
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from expunge.data.batch import Batch
from expunge.data.samples import Samples
from expunge.data.split import Split
from expunge.tasks.classification import Classification
from expunge.training.run import Run

TASK = Classification(4)


class Problem(NamedTuple):
    """A model, a split and the task."""

    model: nn.Module
    split: Split
    task: Classification

    def run(self, **options) -> Run:
        """A run on a copy of the model, for calls of single functions of a method."""
        return Run(copy.deepcopy(self.model), self.split, self.task, source=self.model, **options)


def images(random: bool = False) -> Problem:
    """6x6 images with three channels in [0, 1]; two convolutions, one with a bias, batch norm and a head."""
    g = torch.Generator().manual_seed(0)
    y = torch.arange(80) % 4
    x = (torch.rand(80, 3, 6, 6, generator=g, dtype=torch.float64) + F.one_hot(y, 36).view(80, 1, 6, 6)) / 2
    with torch.random.fork_rng():
        torch.manual_seed(3)
        model = nn.Sequential(
            nn.Conv2d(3, 4, 3, padding=1),
            nn.BatchNorm2d(4),
            nn.Tanh(),
            nn.Conv2d(4, 4, 3, bias=False),
            nn.Flatten(),
            nn.Linear(64, 4),
        ).double()
        # gives batch norm running statistics of this data
        model(x)
    return _problem(model, x, y, random)


def vectors(random: bool = False) -> Problem:
    """Vectors of length 5; one hidden layer."""
    g = torch.Generator().manual_seed(0)
    y = torch.arange(80) % 4
    x = torch.randn(80, 5, generator=g, dtype=torch.float64) + F.one_hot(y, 5)
    with torch.random.fork_rng():
        torch.manual_seed(3)
        model = nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 4)).double()
    return _problem(model, x, y, random)


def _problem(model: nn.Module, x: Tensor, y: Tensor, random: bool) -> Problem:
    sets = (x[:60], y[:60]), (x[60:], y[60:])
    split = (
        Split.random(*sets, 0.2, validation=0.1)
        if random
        else Split.by_class(*sets, forget=1, validation=0.1)
    )
    return Problem(model.eval(), split, TASK)


def everything(samples: Samples) -> Batch:
    """All samples as one batch."""
    return next(samples.batches(len(samples)))


def gradients(loss: Tensor, model: nn.Module) -> dict[str, Tensor]:
    """The gradient of a loss by parameter name."""
    parameters = dict(model.named_parameters())
    return dict(zip(parameters, torch.autograd.grad(loss, list(parameters.values())), strict=True))
