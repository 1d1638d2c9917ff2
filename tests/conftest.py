"""What several test files share: one thread, and two small models of real digits, each trained once."""

from __future__ import annotations

from dataclasses import dataclass

import hypothesis
import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from expunge.data.split import Split
from expunge.tasks.classification import Classification
from expunge.tasks.diffusion import Diffusion
from expunge.tasks.task import Task
from project_office import answered, answered_folder, office, project  # noqa: F401

# a slow machine is no fault of the code
hypothesis.settings.register_profile(
    "untimed", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("untimed")
torch.set_num_threads(1)  # tiny tensors: more threads only wait for each other


@dataclass(frozen=True)
class Toy:
    """A trained model, what it should forget class-wise (3) and at random (10 %), its task. Nothing may
    change it."""

    model: nn.Module
    by_class: Split
    at_random: Split
    task: Task

    def split(self, scenarios: tuple[str, ...]) -> Split:
        """A split that a method of these scenarios serves."""
        return self.by_class if not scenarios or "class" in scenarios else self.at_random

    def probe(self, model: nn.Module, which: str) -> float:
        """The mean probe on a set of `by_class`: percent correct, or minus the loss."""
        samples = getattr(self.by_class, which)
        model.eval()
        with torch.no_grad():
            values = torch.cat([self.task.sample_scores(model, b) for b in samples.batches(256)])
        return values.mean().item() * (100 if self.task.name == "classification" else 1)


def tiny() -> nn.Module:
    """A convolution, a hidden layer, a head; both kinds of batch norm: 2,800 weights."""
    return nn.Sequential(
        nn.Conv2d(1, 6, 3, stride=2, padding=1),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(96, 24),
        nn.BatchNorm1d(24),
        nn.ReLU(),
        nn.Linear(24, 10),
    )


class Denoiser(nn.Module):
    """A noise predictor of two hidden layers that is told the step and the condition (10, and null)."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(64 + 2, 96)
        self.condition = nn.Embedding(11, 96)
        self.middle = nn.Linear(96, 96)
        self.last = nn.Linear(96, 64)

    def forward(self, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        at = t.to(x)[:, None] / 1000
        h = self.first(torch.cat([x.flatten(1), at, at.sqrt()], 1)) + self.condition(y)
        return self.last(nn.functional.silu(self.middle(nn.functional.silu(h)))).view_as(x)


def train(model: nn.Module, split: Split, task: Task, epochs: int) -> nn.Module:
    """Adam on forget and retain set together; leaves no gradients and eval mode behind."""
    optimizer = torch.optim.Adam(model.parameters(), 1e-2 if task.name == "classification" else 3e-3)
    for _ in range(epochs):
        for batch in split.train.batches(64, shuffle=torch.default_generator):
            optimizer.zero_grad()
            task.loss(model, batch).mean().backward()
            optimizer.step()
    optimizer.zero_grad()
    return model.eval()


@pytest.fixture(scope="session")
def splits() -> tuple[Split, Split]:
    """900 real digits (8x8): class 3 to forget, and a random tenth."""
    digits = load_digits()
    x = torch.from_numpy(digits.images).float().div(16)[:, None]
    y = torch.from_numpy(digits.target).long()
    sets = (x[:700], y[:700]), (x[700:900], y[700:900])
    return Split.by_class(*sets, forget=3), Split.random(*sets, 0.1)


@pytest.fixture(scope="session")
def classifier(splits: tuple[Split, Split]) -> Toy:
    """A classifier that knows more than 95 % of its training samples."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Toy(train(tiny(), splits[0], Classification(10), 8), *splits, Classification(10))


@pytest.fixture(scope="session")
def generator(splits: tuple[Split, Split]) -> Toy:
    """A conditional diffusion model. It predicts images, not noise: then its conditions matter."""
    task = Diffusion(10, prediction="sample")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Toy(train(Denoiser(), splits[0], task, 40), *splits, task)
