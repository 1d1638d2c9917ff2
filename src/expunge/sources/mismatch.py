"""Requests in which the labels and the concept to forget have different borders.

They are made from data with two levels of labels: fine classes, and the superclass of each. Let D be the forget data, M
the outputs of the model and T the target concept. "Below" means that one is a fine class inside a superclass.

- "match": D, M and T are the same.
- "target": D = M below T (target mismatch).
- "model": D = T below M (model mismatch).
- "data": D below T = M (data mismatch).

Source: Zhu et al., "Decoupling the Class Label and the Target Concept in Machine Unlearning", arXiv:2406.08288.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from ..data.split import Split
from ..data.tensors import TensorData
from ..errors import SplitError

Kind = Literal["match", "target", "model", "data"]


@dataclass(frozen=True)
class Mismatch:
    """A request in which labels and concept may differ. Both splits have the same training samples.

    Args:
        given: The split that the method gets. Its forget set is the fine class.
        truth: The split to evaluate on. Its forget set is the whole concept.
        kind: "match", "target", "model" or "data".
        classes: Number of outputs of the model.
    """

    given: Split
    truth: Split
    kind: Kind
    classes: int


def mismatch(
    train: tuple[Tensor, Tensor],
    test: tuple[Tensor, Tensor],
    coarse: Sequence[int] | Tensor,
    forget: int,
    kind: Kind,
    *,
    validation: float = 0.1,
    seed: int = 0,
) -> Mismatch:
    """Make a request of one kind.

    The model has fine outputs for "match" and "target", superclass outputs for "model" and "data". The concept is the fine
    class for "match" and "model", its whole superclass for "target" and "data".

    Args:
        train: Training inputs (N, ...) and fine labels (N,).
        test: Test inputs (M, ...) and fine labels (M,).
        coarse: The superclass of each fine class.
        forget: The fine class that is the forget data.
        kind: "match", "target", "model" or "data".
        validation: Share of each class to hold out of training.
        seed: Seed of the validation set.

    Raises:
        SplitError: A fine class has no superclass, or the split cannot be drawn.
    """
    superclass = torch.as_tensor(coarse)
    if not 0 <= forget < len(superclass) or int(train[1].max()) >= len(superclass):
        raise SplitError(
            f"coarse has the superclasses of {len(superclass)} fine classes, but labels go up to {int(train[1].max())} and "
            f"class {forget} is to be forgotten; give one superclass per fine class."
        )
    whole_superclass = kind in ("target", "data")
    concept = [
        k
        for k in range(len(superclass))
        if (superclass[k] == superclass[forget] if whole_superclass else k == forget)
    ]
    coarse_outputs = kind in ("model", "data")
    train_data, test_data = (
        TensorData(
            x, superclass[y] if coarse_outputs else y, groups={"fine": y.numpy()}, name=f"{kind} labels"
        )
        for x, y in (train, test)
    )
    of_concept = torch.isin(test[1], torch.tensor(concept))

    def draw(fine_classes: list[int]) -> Split:
        split = Split.by_group(
            train_data, test_data, "fine", fine_classes, goal="unlearn", validation=validation, seed=seed
        )
        tests = test_data.samples()
        return replace(split, test=tests.take(~of_concept), test_forgotten=tests.take(of_concept))

    return Mismatch(draw([forget]), draw(concept), kind, int(train_data.labels.max()) + 1)
