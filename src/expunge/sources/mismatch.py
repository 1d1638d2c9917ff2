"""Tasks in which the labels and the concept to forget have different borders, from any data with two levels of labels.

Four kinds by three label domains, of the forget data D, the model's outputs M and the target concept T: all match; target
mismatch (D = M below T); model mismatch (D = T below M); data mismatch (D below T = M). Zhu et al., "Decoupling the Class
Label and the Target Concept in Machine Unlearning", arXiv:2406.08288.
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
    """A task where labels and concept differ: what the method is `given`, and the truth it is `judged` on.

    Both see the same training samples; `judged.forget` is the whole concept. `classes` is the model's number
    of outputs.
    """

    given: Split
    judged: Split
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
    """The task of this kind from inputs (N, ...) with fine labels (N,), the superclass of each fine class,
    and the fine class `forget` that names the forget data.

    "match" and "target": the model has fine outputs; "model" and "data": it has superclass outputs. The
    concept is the fine class ("match", "model") or its whole superclass ("target", "data"). Raises
    `SplitError`.
    """
    above = torch.as_tensor(coarse)
    if not 0 <= forget < len(above) or int(train[1].max()) >= len(above):
        raise SplitError(
            f"superclasses were given for {len(above)} fine classes; labels run to {int(train[1].max())} "
            f"and class {forget} is to be forgotten: give one superclass a fine class."
        )
    wide = kind in ("target", "data")
    concept = [k for k in range(len(above)) if (above[k] == above[forget] if wide else k == forget)]
    of_superclass = kind in ("model", "data")
    data, held_out = (
        TensorData(x, above[y] if of_superclass else y, groups={"fine": y.numpy()}, name=f"{kind} labels")
        for x, y in (train, test)
    )
    gone = torch.isin(test[1], torch.tensor(concept))

    def draw(named: list[int]) -> Split:
        split = Split.by_group(
            data, held_out, "fine", named, goal="unlearn", validation=validation, seed=seed
        )
        return replace(
            split, test=held_out.samples().take(~gone), test_forgotten=held_out.samples().take(gone)
        )

    return Mismatch(draw([forget]), draw(concept), kind, int(data.labels.max()) + 1)
