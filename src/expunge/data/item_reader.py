"""Read batches of items of a user's `Dataset`, in this process or in a worker of a `DataLoader`.

A batch is the same in each: the random generators are seeded for it. An item that cannot be used is named by its position.
"""

from __future__ import annotations

import traceback
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor
from torch.utils.data import Dataset, default_collate

from ..errors import ExpungeError
from ..torch_utils.random_state import drawing_from, held_generators
from .items import UnusableItem, label_name, split_item, unnamed

# items that a message names
SHOWN_ITEMS = 5


@dataclass
class Failure:
    """What a reader returns in place of a batch. An exception would lose its list of problems between processes.

    Args:
        problems: One sentence for each item that cannot be used.
    """

    problems: list[str]


class ItemReader(Dataset):
    """Reads batches of items by their positions.

    Args:
        dataset: The user's data set.
        label: The entry of an item that holds the label.
        collate: The user's function that makes a batch of items; None for the one of `DataLoader`.
        seed: Seed of the pass. Equal batches of a pass with equal seeds draw the same random numbers.
        want: What to return of a batch: "inputs", "labels", or "both" as a pair, which needs a `collate`.
    """

    def __init__(
        self,
        dataset: Any,
        label: str,
        collate: Callable[[list[Any]], Any] | None,
        seed: int,
        want: str = "inputs",
    ):
        self.dataset, self.label, self.seed, self.want = dataset, label, seed, want
        self.collate = None if collate is default_collate else collate
        self._held: list[Any] | None = None

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitems__(self, positions: Sequence[int]) -> Any:
        """Return the inputs or the labels of the items at `positions`, or a `Failure`."""
        if self._held is None:
            # in the process that reads: a worker has copies of the generators
            self._held = held_generators(self.dataset)
        number = zlib.crc32(np.asarray(positions, np.int64).tobytes(), self.seed & 0xFFFFFFFF)
        with drawing_from((self.seed >> 32 << 32 | number) % 2**63, self._held):
            try:
                return self._batch(positions, self.items(positions))
            except ExpungeError as error:
                return Failure(error.problems)

    def items(self, positions: Sequence[int]) -> list[Any]:
        """Return the items. Raises `ExpungeError` that names each item that the data set cannot give."""
        many = getattr(self.dataset, "__getitems__", None)
        try:
            return list(many(positions)) if callable(many) else [self.dataset[k] for k in positions]
        # The data set is the user's code.
        except Exception as error:
            problems = [text for k in positions if (text := self._problem_of(k))]
            raise ExpungeError(
                list(dict.fromkeys(problems))[:SHOWN_ITEMS]
                or f"items {positions[:SHOWN_ITEMS]} ...: {_described(error)}."
            ) from error

    def _problem_of(self, position: int) -> str:
        try:
            self.dataset[position]
        except ExpungeError as error:
            return error.problems[0]
        except Exception as error:
            return f"item {position} of the data set cannot be read: {_described(error)}."
        return ""

    def _batch(self, positions: Sequence[int], items: list[Any]) -> Any:
        if self.collate is not None:
            return self._collated(positions, items)
        pairs, problems = [], []
        for position, item in zip(positions, items, strict=True):
            try:
                pairs.append(split_item(item, self.label))
            except UnusableItem as error:
                problems.append(f"item {position} of the data set {error}.")
        if problems:
            raise ExpungeError(problems[:SHOWN_ITEMS])
        if self.want == "labels":
            return [y for _, y in pairs]
        inputs = [x for x, _ in pairs]
        try:
            return default_collate(inputs)
        except (TypeError, RuntimeError, ValueError, KeyError) as error:
            raise ExpungeError(_unlike(positions, inputs, error)) from error

    def _collated(self, positions: Sequence[int], items: list[Any]) -> Any:
        """The inputs or labels of a batch that the user's function makes."""
        assert self.collate is not None
        try:
            batch = self.collate(items)
        # The function is the user's code.
        except Exception as error:
            empty = [k for k, item in zip(positions, items, strict=True) if item is None]
            at = (
                f"items {empty[:SHOWN_ITEMS]} are None"
                if empty
                else f"items {list(positions[:SHOWN_ITEMS])} ..."
            )
            raise ExpungeError(f"the collate function failed ({at}): {_described(error)}.") from error
        inputs, labels = split_batch(batch, self.label)
        size = _batch_size(inputs)
        if size not in (None, len(positions)):
            raise ExpungeError(
                f"the collate function returned {size} samples for {len(positions)} items (first: {positions[0]}); it must leave "
                "none out. Give a torch.utils.data.Subset with the samples you mean."
            )
        if self.want == "labels":
            return labels
        return (inputs, labels) if self.want == "both" else inputs


def split_batch(batch: Any, label: str) -> tuple[Any, Any]:
    """Return the inputs and the labels of a batch that a user's function made. Raises `ExpungeError`."""
    if isinstance(batch, Mapping):
        name = label_name(batch, label)
        if name is None:
            raise ExpungeError(
                f"batches have the entries {sorted(batch)} and no '{label}'; name the entry with the label (`label=`)."
            )
        return {k: v for k, v in batch.items() if k != name and isinstance(v, Tensor)}, batch[name]
    if not isinstance(batch, tuple | list) or len(batch) < 2:
        raise ExpungeError(
            f"the collate function returned a {type(batch).__name__}; return (x, y) or a dict."
        )
    if isinstance(batch[0], tuple | list):
        raise ExpungeError(f"the collate function returned {unnamed(batch[0])}.")
    return batch[0], batch[1]


def _batch_size(inputs: Any) -> int | None:
    """The number of samples of a batch; None if it is not known."""
    first = next(iter(inputs.values()), None) if isinstance(inputs, Mapping) else inputs
    return len(first) if isinstance(first, Tensor) and first.ndim else None


def _unlike(positions: Sequence[int], inputs: list[Any], error: Exception) -> str:
    """Say which item is unlike the first of its batch."""
    shapes = [_shape(x) for x in inputs]
    other = next((k for k, shape in enumerate(shapes) if shape != shapes[0]), None)
    if other is None:
        return (
            f"items {list(positions[:SHOWN_ITEMS])} ... make no batch: {_described(error)}; give `collate`."
        )
    return (
        f"item {positions[other]} of the data set has an input of {shapes[other]}, item {positions[0]} of {shapes[0]}; give all "
        "the same shape, or a `collate` function."
    )


def _shape(x: Any) -> str:
    if isinstance(x, Tensor):
        return f"shape {tuple(x.shape)}"
    if isinstance(x, Mapping):
        return ", ".join(f"{k} {_shape(v)}" for k, v in sorted(x.items()))
    return f"type {type(x).__name__}"


def _described(error: Exception) -> str:
    """The type and text of an error of the user's code, and the line that raised it."""
    frames = traceback.extract_tb(error.__traceback__)
    where = f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {error}{where}"
