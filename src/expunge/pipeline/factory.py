"""Functions that make models with fresh parameters."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from ..torch_utils.module_state import check_seed
from ..torch_utils.random_state import torch_seeded

Factory = Callable[[], nn.Module]


def seeded_factory(factory: Factory, seed: int) -> Factory:
    """Return `factory` with torch's random state seeded, so that original and retrained model start from the same parameters.

    Raises:
        ExpungeError: The seed is no number that torch takes.
    """
    check_seed(seed)
    return SeededFactory(factory, seed)


@dataclass(frozen=True, eq=False)
class SeededFactory:
    """A factory that gives the same parameters at each call.

    Args:
        factory: Makes a model from torch's random state.
        seed: The seed that is set before each call.
        seeded: Says that equal parameters come from the seed, and not from a model that is returned again.
    """

    factory: Factory
    seed: int
    seeded: ClassVar[bool] = True

    def __call__(self) -> nn.Module:
        with torch_seeded(self.seed):
            return self.factory()
