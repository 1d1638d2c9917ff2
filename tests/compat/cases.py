"""What a family of the compatibility test is, and the inputs of its models."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

# number of classes of every model
CLASSES = 3


@dataclass(frozen=True)
class Case:
    """One model of a family on disk.

    Args:
        original: The model, as its library made it.
        spec: What `--model` gets.
        file: What `--checkpoint` gets.
        out: Where the output goes.
        load: Loads an output with the library of the model.
        x: Inputs, 24 samples.
    """

    original: nn.Module
    spec: str | Callable[[], nn.Module]
    file: Path
    out: Path
    load: Callable[[Path], nn.Module]
    x: Tensor


@dataclass(frozen=True)
class Family:
    """A row of the compatibility table.

    Args:
        library: Name of the library.
        name: Name of the family.
        model: What the user gives to `--model`.
        checkpoint: What the user gives to `--checkpoint`.
        make: Makes a case in a folder.
        needs: Modules that must be installed.
        usual: Whether the default test run covers it.
    """

    library: str
    name: str
    model: str
    checkpoint: str
    make: Callable[[Path], Case]
    needs: tuple[str, ...] = ()
    usual: bool = False

    @property
    def id(self) -> str:
        """The id of the test."""
        return f"{self.library}-{self.name}".replace(" ", "_")


def images(side: int, channels: int = 3) -> Tensor:
    """Random images (24, C, H, W)."""
    return torch.rand(24, channels, side, side, generator=torch.Generator().manual_seed(0))


def tokens() -> Tensor:
    """Random token numbers (24, 8), above those with a meaning."""
    x = torch.randint(4, 60, (24, 8), generator=torch.Generator().manual_seed(0))
    # some families read the state at the end token
    x[:, -1] = 2
    return x
