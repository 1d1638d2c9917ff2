"""Import released code of other authors, with stand-ins for what is not installed, and give it data in a fixed order."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from unittest import mock

import torch
from torch.utils.data import DataLoader

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

import released_problem as problem

STAND_INS = [
    "torchvision", "torchvision.transforms", "torchvision.transforms.functional", "torchvision.datasets", "torchvision.models",
    "torchvision.utils", "matplotlib", "matplotlib.pyplot", "datasets", "datasets.load", "imagenet", "dataset", "models",
    "models.diffusion", "models.ema", "pruner", "trainer", "wandb", "seaborn", "scipy.stats", "PIL",
]  # fmt: skip


def flat(tensors) -> list[float]:
    """Return all elements of floating-point tensors as one list."""
    return [v for t in tensors if t.is_floating_point() for v in t.detach().double().flatten().tolist()]


@contextmanager
def code_in(folder: Path):
    """Import from `folder` meanwhile, with stand-ins for what is not installed, and without any shuffling."""
    sys.path.insert(0, str(folder))
    sys.modules.update({name: mock.MagicMock() for name in STAND_INS})
    in_order = lambda data, batch_size=1, **_: DataLoader(data, batch_size=batch_size)  # noqa: E731
    with (
        mock.patch.object(torch.Tensor, "cuda", lambda self, *a, **k: self),
        mock.patch.object(torch.utils.data, "DataLoader", in_order),
        open(os.devnull, "w") as nowhere,
        redirect_stdout(nowhere),
        redirect_stderr(nowhere),
    ):
        yield in_order
    sys.path.remove(str(folder))
    # the repositories have modules of the same names
    for name, module in list(sys.modules.items()):
        if name in STAND_INS or str(getattr(module, "__file__", "")).startswith(str(folder)):
            sys.modules.pop(name, None)


class Labelled(torch.utils.data.Dataset):
    """Samples whose labels the released code may replace."""

    def __init__(self, x, y):
        self.data, self.targets = x, y.numpy()

    def __len__(self):
        return len(self.data)

    def __getitem__(self, i):
        return self.data[i], int(self.targets[i])


def loaders(batch_size: int = problem.BATCH, retained: int = 20) -> dict[str, DataLoader]:
    x, y = problem.training_samples(retained)
    forget = y == problem.FORGOTTEN
    sets = {"forget": Labelled(x[forget], y[forget]), "retain": Labelled(x[~forget], y[~forget])}
    return {name: DataLoader(data, batch_size=batch_size) for name, data in sets.items()}
