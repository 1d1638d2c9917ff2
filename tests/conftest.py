"""What several test files share: one thread, and a small classifier of real digits, trained once."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn

from expunge.classification import Classification
from expunge.split import Split

torch.set_num_threads(1)  # tiny tensors: more threads only wait for each other


@dataclass(frozen=True)
class Toy:
    """A trained model, what it should forget class-wise (3) and at random (10 %), and its task."""

    model: nn.Module
    by_class: Split
    at_random: Split
    task: Classification

    def split(self, scenarios: tuple[str, ...]) -> Split:
        """A split that a method of these scenarios serves."""
        return self.by_class if not scenarios or "class" in scenarios else self.at_random


def tiny() -> nn.Module:
    """A convolution, a hidden layer, a head; both kinds of batch norm: 2,800 weights."""
    return nn.Sequential(nn.Conv2d(1, 6, 3, stride=2, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten(),
                         nn.Linear(96, 24), nn.BatchNorm1d(24), nn.ReLU(), nn.Linear(24, 10))


@pytest.fixture(scope="session")
def toy() -> Toy:
    """Real digits (8x8, 900 of them) and a model that has learned 95 % of them or more. Nothing may change it."""
    digits = load_digits()
    x = torch.from_numpy(digits.images).float().div(16)[:, None]
    y = torch.from_numpy(digits.target).long()
    train, test = (x[:700], y[:700]), (x[700:900], y[700:900])
    by_class, at_random = Split.by_class(train, test, forget=3), Split.random(train, test, 0.1)
    samples = by_class.train
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = tiny()
        optimizer = torch.optim.Adam(model.parameters(), 1e-2, weight_decay=1e-4)
        for _ in range(8):
            for batch in samples.batches(64, shuffle=torch.default_generator):
                optimizer.zero_grad()
                nn.functional.cross_entropy(model(batch.x), batch.y).backward()
                optimizer.step()
        optimizer.zero_grad()
    return Toy(model, by_class, at_random, Classification(10))
