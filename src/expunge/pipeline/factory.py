"""Functions that make models with fresh parameters."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from torch import Tensor, nn

from ..torch_utils.module_state import check_seed
from ..torch_utils.random_state import torch_seeded

Factory = Callable[[], nn.Module]
Trained = Callable[[], Mapping[str, Tensor] | None]


def seeded_factory(factory: Factory, seed: int, trained: Trained | None = None) -> Factory:
    """Return `factory` with torch's random state seeded, so that original and retrained model start from the same parameters.

    Args:
        factory: Makes a model from torch's random state.
        seed: The seed that is set before each call.
        trained: See `SeededFactory`.

    Raises:
        ExpungeError: The seed is no number that torch takes.
    """
    check_seed(seed)
    return SeededFactory(factory, seed, trained)


@dataclass(frozen=True, eq=False)
class SeededFactory:
    """A factory that gives the same parameters at each call.

    Args:
        factory: Makes a model from torch's random state.
        seed: The seed that is set before each call.
        trained: Reads the parameters of an original that was trained on the forget set, by name, if a run gets another model
            to unlearn from. A run refuses a factory that returns them. None if there is no other original.
    """

    factory: Factory
    seed: int
    trained: Trained | None = None

    def __call__(self) -> nn.Module:
        with torch_seeded(self.seed):
            return self.factory()

    def with_seed(self, seed: int) -> SeededFactory:
        """Return the factory with another seed."""
        return replace(self, seed=seed)
