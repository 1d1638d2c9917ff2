"""Names of the classes of training data, and checks of a pair of training and test data."""

from __future__ import annotations

from ..errors import ExpungeError
from .samples import Data
from .tensors import TensorData

# above this many classes, at least one in a hundred numbers must occur
MANY_CLASSES = 10_000


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
    highest = int(train.labels.max())
    values = len(train.labels.unique())
    if highest >= MANY_CLASSES and 100 * values <= highest:
        raise ExpungeError(
            f"labels go to {highest}, but only {values} values occur, which would make {highest + 1:,} classes; number the classes "
            "from 0."
        )


def pair_problems(train: Data, test: Data) -> list[str]:
    """Return one sentence if the inputs of test data have another shape than those of training data."""
    if not (isinstance(train, TensorData) and isinstance(test, TensorData)):
        return []
    if isinstance(train.x, dict) or isinstance(test.x, dict) or train.x.shape[1:] == test.x.shape[1:]:
        return []
    return [
        f"an input of the test data has the shape {tuple(test.x.shape[1:])}, of the training data {tuple(train.x.shape[1:])}; "
        "give both the same shape."
    ]
