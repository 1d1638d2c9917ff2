"""Bias shift: lower the forgotten class's bias in the head, and nothing else. The null baseline.

The edit b_f -= s is known from diagnoses of class-wise unlearning by the head's biases; as a baseline it is
ours: every class-wise claim must beat it, for accuracy on the forgotten class falls to 0 while every feature
of it stays. The default s is so large that the class is never predicted, and small enough for half precision
to hold the logit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from ..errors import ModelError
from ..training.method import Method
from ..training.run import Run


@dataclass(frozen=True, kw_only=True)
class BiasShift(Method):
    """Bias shift: the null baseline that hides a class by its bias alone."""

    shift: float = 1e4  # s: how much the forgotten classes' biases are lowered

    needs: ClassVar = ("head",)
    scenarios: ClassVar = ("class",)
    data: ClassVar = ()
    search: ClassVar = {"shift": (2.0, 5.0, 10.0, 1e4)}

    def apply(self, run: Run) -> None:
        if run.task.head(run.model)[1].bias is None:
            raise ModelError("the head has no bias to shift; use nhle with masking='zero' instead.")
        _, head = run.task.open_head(run.model, "bias")
        with torch.no_grad():
            head.bias[list(run.split.forget_classes)] -= self.shift
