"""Labels as a user's `Dataset` gives them: numbers, tensors or names."""

from __future__ import annotations

from collections.abc import Iterable, KeysView, Mapping, Sequence, Set
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import default_collate

from ..errors import ExpungeError
from .class_lists import by_number
from .label_order import in_order

# labels that a message shows
SHOWN_LABELS = 5


def class_list(classes: Any) -> list[str] | None:
    """Return class names as texts, in the order of their numbers. None if there are none.

    Args:
        classes: A sequence of names, or a dict {name: number} or {number: name} with the numbers 0 to K - 1.

    Raises:
        ExpungeError: The names have no order, as in a set, or are no such dict.
    """
    if classes is None:
        return None
    if isinstance(classes, Mapping):
        if (names := by_number(classes)) is None:
            raise ExpungeError(
                f"`classes` is a dict that does not number its names from 0 to {len(classes) - 1}; give a list of the names in the order "
                "of their numbers."
            )
        return names or None
    if isinstance(classes, Set) and not isinstance(classes, KeysView):
        raise ExpungeError(
            "`classes` is a set, which has no order, so that the numbers of the classes would change with each run; give a list of the "
            "names in the order of their numbers."
        )
    if isinstance(classes, str | bytes) or not isinstance(classes, Iterable):
        raise ExpungeError(
            f"`classes` is a {type(classes).__name__} ({str(classes)[:40]!r}); give a list of the names in the order of their numbers."
        )
    return [str(c) for c in classes] or None


def numbered(labels: Any, classes: Any) -> tuple[Tensor, list[str] | None]:
    """Return labels as a tensor, and the class names. Names are numbered by `classes`, else as `in_order` orders them.

    Raises:
        ExpungeError: Labels are missing, are names and numbers, are no numbers, or are not among the class names, or the class names
            cannot be used.
    """
    classes = class_list(classes)
    if isinstance(labels, Tensor):
        return labels, classes
    values = labels.tolist() if isinstance(labels, np.ndarray) and labels.dtype.kind in "UTOS" else labels
    if not isinstance(values, Sequence) or not any(isinstance(v, str) for v in values):
        return _as_tensor(values), classes
    if other := [k for k, v in enumerate(values) if not isinstance(v, str)]:
        first = next(k for k, v in enumerate(values) if isinstance(v, str))
        raise ExpungeError(
            f"the label of item {other[0]} is {values[other[0]]!r} and that of item {first} is {values[first]!r}; give all as names "
            "or all as numbers from 0."
        )
    names = in_order(values) if classes is None else classes
    if unknown := sorted(set(values) - set(names)):
        raise ExpungeError(
            f"the labels {unknown[:SHOWN_LABELS]} are not among the classes {names[:SHOWN_LABELS]}; give all names as `classes`."
        )
    if twice := sorted({name for name in set(values) if names.count(name) > 1}):
        raise ExpungeError(
            f"the classes {twice[:SHOWN_LABELS]} occur more than once in `classes`, so their labels have no number; give each class a "
            "name of its own."
        )
    number = {name: k for k, name in enumerate(names)}
    return torch.tensor([number[v] for v in values], dtype=torch.int64), names


def _as_tensor(values: Any) -> Tensor:
    if isinstance(values, np.ndarray) and not values.dtype.isnative:
        # torch takes no other byte order
        values = values.astype(values.dtype.newbyteorder("="))
    try:
        return torch.as_tensor(values)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ExpungeError(
            f"the labels are no numbers ({type(error).__name__}: {error}); number the classes from 0, or give names as texts."
        ) from error


def label_tensor(labels: Any, positions: Tensor) -> Tensor:
    """Return the labels of some items with a leading axis of samples. Whole numbers of shape (B, 1) become (B,).

    Args:
        labels: A list of labels (B,), or what a user's function made of them.
        positions: Positions of the items, for messages.

    Raises:
        ExpungeError: A label is missing, or labels are unlike each other. Names the item.
    """
    if isinstance(labels, list) and (missing := [k for k, v in enumerate(labels) if v is None]):
        raise ExpungeError(f"the label of item {int(positions[missing[0]])} is None; give each item a label.")
    try:
        values = default_collate(labels) if isinstance(labels, list) else torch.as_tensor(labels)
    except (TypeError, ValueError, RuntimeError, KeyError) as error:
        kinds = [(type(v).__name__, tuple(getattr(v, "shape", ()))) for v in labels]
        other = next((k for k, kind in enumerate(kinds) if kind != kinds[0]), 0)
        raise ExpungeError(
            f"the label of item {int(positions[other])} is {str(labels[other])[:40]!r} and that of item {int(positions[0])} is "
            f"{str(labels[0])[:40]!r}; give one number or name per item."
        ) from error
    if not isinstance(values, Tensor):
        raise ExpungeError(
            f"the label of item {int(positions[0])} is a {type(labels[0]).__name__}; give one number or name per item."
        )
    column = values.ndim == 2 and values.shape[1] == 1 and not values.is_floating_point()
    return values.reshape(-1) if column or values.ndim == 0 else values
