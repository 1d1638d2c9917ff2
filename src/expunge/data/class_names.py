"""Names of the classes of training data, and checks of a pair of training and test data."""

from __future__ import annotations

import numpy as np
import torch

from ..errors import raise_all
from ..torch_utils.finite import rows_not_finite
from .batch import Inputs
from .samples import Data
from .transforms import as_float

# above this many classes, at least one in a hundred numbers must occur
MANY_CLASSES = 10_000
# ids that a message shows
SHOWN_IDS = 5


def class_names(train: Data) -> list[str]:
    """Return the class names, or the class numbers as texts."""
    if train.classes:
        return [str(c) for c in train.classes]
    return [str(c) for c in range(int(train.labels.max()) + 1)]


def check_class_numbers(train: Data) -> None:
    """Check the labels of a classifier's data. A task of the user's own may have labels that are no classes.

    Raises:
        ExpungeError: The labels go up to a number far above the number of their values.
    """
    if train.classes:
        return
    raise_all(sparse_labels(train.labels.unique().numpy()))


def sparse_labels(values: np.ndarray) -> list[str]:
    """Return one sentence if labels go up to a number far above the number of their values.

    Args:
        values: The different labels (K,).
    """
    highest = int(values.max())
    if highest < MANY_CLASSES or 100 * len(values) > highest:
        return []
    return [
        f"labels go to {highest}, but only {len(values)} values occur, which would make {highest + 1:,} classes; number the classes "
        "from 0."
    ]


def pair_problems(train: Data, test: Data) -> list[str]:
    """Return one sentence for each difference between the inputs of training and test data, and for inputs that are not finite."""
    inputs = {"training": train, "test": test}
    if empty := [part for part, data in inputs.items() if not len(data)]:
        return [
            f"there are no {' and no '.join(empty)} samples; give some, or, where a fifth of each class is held out for testing, at "
            "least three samples of a class."
        ]
    # raw inputs: a batch would copy data that lies on a GPU
    described = {part: _describe(as_float(next(iter(data.raw_inputs(1))))) for part, data in inputs.items()}
    problems = []
    if described["training"] != described["test"]:
        problems.append(
            f"an input of the test data is {described['test']}, of the training data {described['training']}; give both the same "
            "shape and type."
        )
    return problems + [p for part, data in inputs.items() for p in not_finite(part, data)]


def _describe(x: Inputs) -> str:
    """The shape and the type of one input. Floats of all precisions are one type, and so are whole numbers."""
    named = x if isinstance(x, dict) else {"": x}
    described = (
        # tokens of two sets may be padded to two lengths
        f"{name} of shape {tuple(t.shape[1:])} (floats)"
        if t.is_floating_point()
        else f"{name} of rank {t.ndim - 1} (no floats)"
        for name, t in sorted(named.items())
    )
    return ", ".join(described).strip()


def not_finite(part: str, data: Data) -> list[str]:
    """Return one sentence if inputs in memory hold NaN or infinity, which would make the loss of a whole batch NaN.

    Args:
        part: "training" or "test", for the message.
        data: The data.
    """
    # streamed data has no inputs in memory
    inputs = getattr(data, "x", None)
    if inputs is None:
        return []
    tensors = inputs.values() if isinstance(inputs, dict) else [inputs]
    bad = sorted({k for t in tensors if t.is_floating_point() for k in rows_not_finite(t)})
    if not bad:
        return []
    ids = data.samples(torch.tensor(bad)).ids
    return [
        f"{len(ids)} {part} samples hold NaN or infinity (ids: {ids[:SHOWN_IDS]}); correct or remove them."
    ]
