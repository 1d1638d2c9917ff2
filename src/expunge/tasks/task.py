"""What Expunge knows of a model: how to take its loss on samples, and its loss if their labels were others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

from torch import Tensor, nn

from ..data.batch import Batch

if TYPE_CHECKING:
    from ..data.split import Split


@runtime_checkable
class Task(Protocol):
    """A kind of model. Losses are per sample, (B,); labels are class labels of a classifier, conditions of a generator."""

    @property
    def name(self) -> str:
        """What methods list under `tasks`: "classification" or "diffusion"."""

    @property
    def num_classes(self) -> int:
        """Number of classes or conditions."""

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """The training loss of each sample (B,)."""

    def relabel_loss(self, model: nn.Module, batch: Batch, y: Tensor) -> Tensor:
        """The loss (B,) that moves the model to behave on `batch` as if the labels were `y`."""

    def probe(self, model: nn.Module, batch: Batch) -> Tensor:
        """How well the model does on each sample (B,), higher is better: 0 or 1 for a classifier, minus the loss for others."""

    def check(self, model: nn.Module, split: Split) -> None:
        """Raise `ModelError` with every reason why `model` cannot serve this split."""
