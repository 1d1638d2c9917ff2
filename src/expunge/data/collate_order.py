"""Check that a user's collate function keeps the order of items, so that each label, id and input belong to one sample."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import ExpungeError
from ..torch_utils.random_state import drawing_from, held_generators

# items that are collated: the first ones, and as many spread over the data set
PROBED_ITEMS = 16
# padding may be made with sums in another order
TOLERANCE = 1e-5

# the inputs of one sample, and its label
Row = tuple[list[Tensor], Any]


def check_order(
    dataset: Any,
    read: Callable[[Sequence[int]], list[Any]],
    collate: Callable[[list[Any]], tuple[Any, Any]],
) -> None:
    """Collate some items forwards, backwards and each with itself, and compare the samples.

    A sample may be padded in a batch. Where inputs are random or depend on the batch, the labels alone are compared.

    Args:
        dataset: The user's data set.
        read: Reads the items at some positions.
        collate: Makes the inputs and the labels of a batch by the user's function.

    Raises:
        ExpungeError: The function gives the items in another order, or an item another label than alone.
    """
    count = len(dataset)
    spread = np.linspace(0, count - 1, PROBED_ITEMS).round().astype(int).tolist() if count else []
    positions = sorted({*range(min(count, PROBED_ITEMS)), *spread})
    with drawing_from(0, held_generators(dataset)):
        try:
            items = read(positions)
            alone = [_rows(collate, [item, item])[0] for item in items]
            orders = [range(len(items)), range(len(items) - 1, -1, -1)]
            batches = [(order, _rows(collate, [items[k] for k in order])) for order in orders]
        # The pass over all items reports what cannot be read or collated, with its position.
        except Exception:
            return
    for order, rows in batches:
        if len(rows) == len(items):
            _compare(rows, [alone[k] for k in order], [positions[k] for k in order])


def _rows(collate: Callable[[list[Any]], tuple[Any, Any]], items: Sequence[Any]) -> list[Row]:
    """The samples of a batch that the function makes of the items."""
    inputs, labels = collate([_copied(item) for item in items])
    labels = labels if isinstance(labels, list) else torch.as_tensor(labels)
    tensors = [t for t in _tensors(inputs) if t.ndim and len(t) == len(items)]
    return [([t[k] for t in tensors], label) for k, label in enumerate(labels)]


def _copied(item: Any) -> Any:
    """The item in containers of its own: a collate function may take entries out of them."""
    if type(item) is dict:
        return {k: _copied(v) for k, v in item.items()}
    if type(item) in (list, tuple):
        return type(item)(_copied(v) for v in item)
    return item


def _tensors(inputs: Any) -> list[Tensor]:
    if isinstance(inputs, Tensor):
        return [inputs]
    parts = inputs.values() if isinstance(inputs, Mapping) else inputs
    return [t for part in parts for t in _tensors(part)] if isinstance(inputs, Mapping | tuple | list) else []


def _compare(rows: list[Row], alone: list[Row], positions: list[int]) -> None:
    """Raise `ExpungeError` if a row of a batch is another item than the one at its place."""
    for k, (row, item) in enumerate(zip(rows, alone, strict=True)):
        if row[0] and not _same_inputs(row[0], item[0]):
            other = next((j for j, it in enumerate(alone) if j != k and _same_inputs(row[0], it[0])), None)
            if other is not None:
                raise ExpungeError(_reordered(positions[k], positions[other]))
        if not _same_label(row[1], item[1]):
            raise ExpungeError(
                f"the collate function gives item {positions[k]} the label {_shown(row[1])} in a batch of {len(rows)} items, and "
                f"{_shown(item[1])} alone; it must keep the order of the items, and the label of each. Labels of mixed samples "
                "(MixUp, CutMix) belong into the training loop."
            )


def _reordered(place: int, item: int) -> str:
    return (
        f"the collate function changes the order of the items: item {item} stands at the place of item {place}. Labels and ids go by "
        "the order, so it must keep it. Do not sort there; for packed sequences, give pack_padded_sequence(..., enforce_sorted=False)."
    )


def _same_inputs(row: list[Tensor], item: list[Tensor]) -> bool:
    return len(row) == len(item) and all(map(_same_but_padding, row, item))


def _same_but_padding(row: Tensor, item: Tensor) -> bool:
    """Whether a tensor is that of the item, or it with padding of one value before or after it, or its beginning."""
    if row.ndim != item.ndim or row.dtype != item.dtype:
        return False
    if all(r <= i for r, i in zip(row.shape, item.shape, strict=True)):
        return _close(row, item[tuple(slice(r) for r in row.shape)])
    if any(r < i for r, i in zip(row.shape, item.shape, strict=True)) or not item.numel():
        return False
    after = tuple(slice(i) for i in item.shape)
    before = tuple(slice(r - i, r) for r, i in zip(row.shape, item.shape, strict=True))
    return any(_close(row[block], item) and _one_value_outside(row, block) for block in (after, before))


def _one_value_outside(row: Tensor, block: tuple[slice, ...]) -> bool:
    outside = torch.ones(row.shape, dtype=torch.bool)
    outside[block] = False
    return len(row[outside].unique()) <= 1


def _close(a: Tensor, b: Tensor) -> bool:
    return bool(torch.allclose(a, b, TOLERANCE, TOLERANCE, equal_nan=True))


def _same_label(a: Any, b: Any) -> bool:
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return _same_but_padding(a, b)
    return bool(a == b)


def _shown(label: Any) -> str:
    return str(label.tolist() if isinstance(label, Tensor) else label)[:40]
