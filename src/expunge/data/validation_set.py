"""Take samples out of a validation set, wherever it comes from."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from .samples import Samples

_NO_POSITIONS = torch.empty(0, dtype=torch.int64)


class WithValidation(Protocol):
    """What is needed of a split."""

    @property
    def validation(self) -> Samples:
        """The validation set."""

    @property
    def validation_from_test(self) -> bool:
        """Whether the validation set was taken out of the test set."""


def validation_without(
    split: WithValidation, positions: Tensor, test_positions: Tensor = _NO_POSITIONS
) -> Samples:
    """Return the validation set of a split without some samples.

    Args:
        split: The split.
        positions: Positions (n,) in the training data, for samples that were held out of training.
        test_positions: Positions (m,) in the test data, for samples that left the test set.
    """
    gone = test_positions if split.validation_from_test else positions
    return split.validation.take(~torch.isin(split.validation.index, gone))
