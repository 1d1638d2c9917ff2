"""Bias shift: lower the forgotten class's bias in the head and change nothing else. It is the null baseline.

    b_f <- b_f - s

Accuracy on the forgotten class falls to 0, yet every feature of the class stays in the model. A claim about class-wise
unlearning must therefore beat this baseline.

Source: the edit is known from diagnoses of class-wise unlearning by the biases of the head.

Ours: its use as a baseline, and the default s. It is so large that the class is never predicted, and so small that half
precision holds the logit.

Cost: One number for each forgotten class. No sample is read.

When not to use it: Anything must be forgotten. It is a baseline for claims about class-wise unlearning: every
feature of the class stays in the model.
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
    """Hide a class by its bias alone (bias shift, the null baseline).

    Args:
        shift: s, by how much the biases of the forgotten classes are lowered, in units of logits.
    """

    shift: float = 1e4

    needs: ClassVar = ("head",)
    scenarios: ClassVar = ("class",)
    data: ClassVar = ()
    search: ClassVar = {"shift": (2.0, 5.0, 10.0, 1e4)}
    hides_only: ClassVar = (
        "bias_shift lowers a bias and leaves all that the model learned in its weights, so it answers no request; it is a baseline for "
        "benchmarks. Choose another method: `expunge methods` lists them."
    )

    def apply(self, run: Run) -> None:
        """Lower the biases in place."""
        if run.task.head(run.model)[1].bias is None:
            raise ModelError(
                "the head has no bias to lower; use the method nhle with masking='zero' instead."
            )
        _, head = run.task.open_head(run.model, "bias")
        with torch.no_grad():
            head.bias[list(run.split.forget_classes)] -= self.shift
