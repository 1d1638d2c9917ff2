"""Functions that make models with fresh parameters."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from ..torch_utils.module_state import check_seed

Factory = Callable[[], nn.Module]


def seeded_factory(factory: Factory, seed: int) -> Factory:
    """Return `factory` with torch's random state seeded, so that original and retrained model start from the same parameters.

    Raises:
        ExpungeError: The seed is no number that torch takes.
    """
    check_seed(seed)

    def make() -> nn.Module:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return factory()

    return make
