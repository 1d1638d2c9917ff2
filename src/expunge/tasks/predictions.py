"""What a model achieves on some samples: scores, or a classifier's logits."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any, Protocol

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class SampleScores:
    """What a model achieves on some samples, on the CPU.

    Args:
        correct: How right the model is on each sample (N,), from 0 to 1, float64.
        confidence: How sure the model is of each sample's label (N,), from 0 to 1, float64. Membership attacks use it.
        labels: The samples' labels (N, ...).
    """

    correct: Tensor
    confidence: Tensor
    labels: Tensor

    def __repr__(self) -> str:
        return f"SampleScores({len(self.labels):,} samples, accuracy {self.accuracy:.2f} %)"

    @property
    def finite(self) -> bool:
        """Whether all scores are finite."""
        return bool(self.correct.isfinite().all())

    @property
    def accuracy(self) -> float:
        """Mean of `correct` in percent; NaN for no samples."""
        return 100 * self.correct.double().mean().item()


@dataclass(frozen=True, eq=False)
class Predictions:
    """The predictions of a classifier for some samples: `SampleScores` with logits.

    Args:
        logits: Logits (N, K), float32 on the CPU.
        labels: Class numbers (N,).
        features: Penultimate features (N, D), float32 on the CPU, or None.
    """

    logits: Tensor
    labels: Tensor
    features: Tensor | None = None

    def __repr__(self) -> str:
        shape = tuple(self.logits.shape)
        features = "" if self.features is None else f", features {tuple(self.features.shape)}"
        return f"Predictions({len(self.labels):,} samples, logits {shape}{features})"

    @cached_property
    def probabilities(self) -> Tensor:
        """Softmax (N, K), in float64, so that confidences near 1 keep their order."""
        return self.logits.double().softmax(1)

    @property
    def confidence(self) -> Tensor:
        """Probability of the true class (N,)."""
        return self.probabilities.gather(1, self.labels[:, None])[:, 0]

    @property
    def shares(self) -> Tensor:
        """Share of the samples that the model assigns to each class (K,)."""
        return torch.bincount(self.logits.argmax(1), minlength=self.logits.shape[1]).double() / len(
            self.logits
        )

    @property
    def correct(self) -> Tensor:
        """Whether the most likely class is the true one, bool (N,)."""
        return self.logits.argmax(1) == self.labels

    @property
    def finite(self) -> bool:
        """Whether all logits are finite."""
        return bool(self.logits.isfinite().all())

    @property
    def accuracy(self) -> float:
        """Accuracy in percent; NaN for no samples."""
        return 100 * self.correct.double().mean().item()


class PredictedSets(Protocol):
    """Predictions of a classifier on the sets of a split, such as an `Evaluation`."""

    @property
    def forget(self) -> Any:
        """Predictions on the forget set."""

    @property
    def retain(self) -> Any:
        """Predictions on the retain set."""

    @property
    def test(self) -> Any:
        """Predictions on the test samples of the retained classes."""

    @property
    def test_forgotten(self) -> Any:
        """Predictions on the test samples of the forgotten classes."""


def taken(predictions: Any, chosen: Tensor) -> Any:
    """Return the predictions on the chosen samples: bool (N,), or positions (n,)."""
    values = {f.name: getattr(predictions, f.name) for f in fields(predictions)}
    return replace(predictions, **{name: v[chosen] for name, v in values.items() if isinstance(v, Tensor)})
