"""`StreamData`: a `Dataset` that is read on demand, in worker processes and through pinned memory."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any
from zlib import crc32

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate

from ..errors import ExpungeError
from .batch import Augment, Batch, Inputs
from .collate_order import check_order
from .item_reader import SHOWN_ITEMS, Failure, ItemReader, split_batch
from .items import label_name
from .label_shortcut import has_transform, label_column, labels_without_items, one_per_label
from .label_values import label_tensor, numbered
from .samples import RAW_BATCH, Data
from .transforms import Normalize, prepare

# batch size of the pass that reads labels
LABEL_BATCH = 256
# positions of a pass that its seed depends on
SEED_POSITIONS = 4096


class StreamData(Data):
    """Samples of a map-style `Dataset`, read on demand through a `DataLoader`.

    An item is a pair (x, y), where more entries may follow, or a dict, dataclass or named tuple with the label and named inputs.
    PIL images become uint8 (C, H, W). Labels may be names. The random generators of torch, NumPy and `random`, and those that the
    data set holds, are seeded for each batch: a pass in the same order gives the same inputs, with any number of workers.

    Labels come from the first of these that applies:

    1. the argument `labels`;
    2. the attribute `samples`, `targets` or `labels`, or the column, of a data set of torchvision, torch, `datasets` or Expunge without
       a `__getitem__` of yours and without a transform of labels, if the first item of each label carries the same label;
    3. one pass over all items.

    Args:
        dataset: The data set, with a length and items by position.
        labels: Labels (N,). Default: found as above.
        label: The entry of an item that holds the label. By default "labels", "label", "target", "targets" or "y".
        ids: One id per sample. Default: the position is the id.
        groups: {column: one value per sample}, for requests such as `Split.by_group(..., "user", "alice")`.
        classes: Class names, in the order of their numbers. Default: the attribute `classes` of the data set, or the labels if they
            are names.
        augment: Augmentation of training batches, such as `CropFlip()`.
        normalize: Normalisation of all batches.
        name: Name for records.
        read_as: Source options that the images were read with.
        texts: The text that each sample was made of, by which copies are found.
        workers: Processes that read items ahead of the steps. Default 0: read in this process.
        collate: Function that makes a batch of items, in their order. Default: the one of `DataLoader`.

    Raises:
        ExpungeError: The data set has no length or no items by position, the number of labels differs from it, an item cannot be
            used, or `collate` changes the order of items. Names the item by its position.

    Example:
        >>> train = StreamData(torchvision.datasets.ImageFolder("train", transform), workers=8)
    """

    def __init__(
        self,
        dataset: Dataset[Any],
        *,
        labels: Tensor | Sequence[int] | None = None,
        label: str = "labels",
        ids: Sequence[str] | np.ndarray | None = None,
        groups: Mapping[str, Sequence[Any] | np.ndarray] | None = None,
        classes: Sequence[str] | None = None,
        augment: Augment | None = None,
        normalize: Normalize | None = None,
        name: str = "dataset",
        read_as: str = "",
        texts: Sequence[str] | np.ndarray | None = None,
        workers: int = 0,
        collate: Callable[[list[Any]], Any] | None = None,
    ):
        if not hasattr(dataset, "__len__") or not hasattr(dataset, "__getitem__"):
            raise ExpungeError(
                f"{type(dataset).__name__} has no length or no items by position; give a map-style Dataset."
            )
        self.dataset, self.label, self.workers, self.collate = dataset, label, workers, collate
        if self.collate not in (None, default_collate):
            reader = ItemReader(dataset, label, collate, 0)
            check_order(dataset, reader.items, lambda items: split_batch(self.collate(items), label))  # type: ignore[misc]
        # whether each batch of the collate function must have these labels
        self._compared = labels is None and self.collate not in (None, default_collate)
        labels = self._find_labels() if labels is None else labels
        numbers, names = numbered(labels, self._class_names(labels) if classes is None else classes)
        self._set(
            numbers,
            ids,
            groups,
            names,
            augment,
            normalize,
            name,
            read_as,
            texts,
        )
        if len(self) != len(dataset):  # type: ignore[arg-type]
            raise ExpungeError(
                f"the data set has {len(dataset)} samples and {len(self)} labels; give one label per sample."  # type: ignore[arg-type]
            )

    def _describe_inputs(self) -> str:
        return f"read from {type(self.dataset).__name__}"

    def _find_labels(self) -> Any:
        """Take the labels from an attribute of the data set, or read them from all items."""
        count = len(self.dataset)  # type: ignore[arg-type]
        for labels in labels_without_items(self.dataset, self.label):
            checked = one_per_label(labels, count)
            if checked and _labels_agree(labels, checked, count, self._read_labels(checked, 0)):
                return labels
        return self._read_labels(range(count), self.workers)

    def _class_names(self, labels: Any) -> Any:
        """The class names that the data set knows. Those of a column have its numbers, which a transform may change."""
        columns = getattr(self.dataset, "features", None)
        name = label_name(columns, self.label) if isinstance(columns, Mapping) else None
        of_column = None if name is None else getattr(columns[name], "names", None)  # type: ignore[index]
        if has_transform(self.dataset) and of_column is not None:
            column = label_column(self.dataset, self.label)
            values = labels.tolist() if isinstance(labels, Tensor) else list(labels)
            of_column = of_column if column == values else None
        named = getattr(self.dataset, "classes", None)
        # a number of classes, or a method, names none
        return named if isinstance(named, Iterable) and len(list(named)) else of_column

    def _read_labels(self, positions: Sequence[int], workers: int) -> Any:
        """Read the labels (n,) of the items at `positions`: a tensor, or a list of names."""
        order = torch.as_tensor(positions, dtype=torch.int64)
        parts = list(self._passes(order, LABEL_BATCH, 0, "labels", workers))
        if any(isinstance(label, str) for part in parts for label in part):
            return [label for part in parts for label in part]
        return torch.cat([label_tensor(p, order[k * LABEL_BATCH :]) for k, p in enumerate(parts)] or [order])

    def _passes(
        self, order: Tensor, batch_size: int, seed: int, want: str, workers: int, pin_memory: bool = False
    ) -> Iterator[Any]:
        """Yield the inputs or the labels of batches. Raises `ExpungeError` for items that cannot be used."""
        loader = DataLoader(
            ItemReader(self.dataset, self.label, self.collate, seed, want),
            batch_sampler=_PositionBatches(order, batch_size),
            num_workers=workers,
            collate_fn=_unchanged,
            pin_memory=pin_memory,
            # By default a loader draws from torch's global state: evaluating a model would change its next steps.
            generator=torch.Generator().manual_seed(seed),
        )
        for part in loader:
            if isinstance(part, Failure):
                raise ExpungeError(part.problems)
            yield part

    def batches(
        self, order: Tensor, batch_size: int, device: torch.device, augment: torch.Generator | None
    ) -> Iterator[Batch]:
        pinned = device.type == "cuda"
        want = "both" if self._compared else "inputs"
        parts = self._passes(order, batch_size, _pass_seed(order), want, self.workers, pinned)
        for number, part in enumerate(parts):
            at = order[number * batch_size : (number + 1) * batch_size]
            x = self._compared_inputs(part[0], part[1], at) if self._compared else part
            batch = Batch(x, self.labels[at], at).to(device)
            yield prepare(batch, self.augment, augment, self.normalize)

    def _compared_inputs(self, x: Inputs, labels: Any, at: Tensor) -> Inputs:
        """The inputs of a batch whose labels are those of its samples. Raises `ExpungeError` for others."""
        named = isinstance(labels, list) and any(isinstance(v, str) for v in labels)
        of_batch = numbered(labels, self.classes)[0] if named else label_tensor(labels, at)
        if not torch.equal(of_batch.cpu().to(self.labels.dtype), self.labels[at]):
            raise ExpungeError(
                f"the collate function gives a batch (items {at[:SHOWN_ITEMS].tolist()} ...) other labels than it gave these items "
                "before; it must keep the order of the items, and the label of each."
            )
        return x

    def raw_inputs(self, count: int | None = None) -> Iterator[Inputs]:
        """Yield the inputs as the data set gives them: see `Data.raw_inputs`."""
        order = torch.arange(len(self) if count is None else min(count, len(self)))
        # A function of the user may pad items to the longest of their batch.
        size = RAW_BATCH if self.collate in (None, default_collate) else 1
        # another seed for another count, so that random transforms show
        return self._passes(order, size, len(order), "inputs", self.workers)

    def inputs_at(self, index: Tensor) -> Iterator[Inputs]:
        size = RAW_BATCH if self.collate in (None, default_collate) else 1
        return self._passes(index, size, _pass_seed(index), "inputs", self.workers)

    def fingerprint(self) -> str:
        # Reading all inputs only to name the data costs an epoch. Labels, ids and length stand for them. Requests by position keep
        # hashes of their samples (`sample_contents`), by which another order is found.
        digest = self._hash_labels()
        if self._noted is None:
            self._noted = crc32(digest.digest())
        return digest.hexdigest()


def _labels_agree(labels: Any, positions: Sequence[int], count: int, of_items: Any) -> bool:
    """Whether `labels` has `count` entries, and those at `positions` equal the labels `of_items`.

    They differ under a `target_transform`, in a wrapper, or if the attribute holds names instead of numbers.
    """
    try:
        mine = [labels[k] if isinstance(labels[k], str) else int(labels[k]) for k in positions]
        return len(labels) == count and mine == (
            of_items if isinstance(of_items, list) else of_items.tolist()
        )
    except (TypeError, ValueError, LookupError):
        return False


def _pass_seed(order: Tensor) -> int:
    """Return the seed of a pass. It differs for each shuffled order."""
    digest = hashlib.sha256(order[:SEED_POSITIONS].numpy().tobytes()).digest()
    return int.from_bytes(digest[:7], "big")


def _unchanged(batch: Any) -> Any:
    # A reader returns whole batches. No lambda: workers may be pickled.
    return batch


class _PositionBatches:
    """A batch sampler over a tensor of positions. It makes no Python list of all positions."""

    def __init__(self, order: Tensor, batch_size: int):
        self.order, self.batch_size = order, batch_size

    def __iter__(self) -> Iterator[list[int]]:
        for start in range(0, len(self.order), self.batch_size):
            yield self.order[start : start + self.batch_size].tolist()

    def __len__(self) -> int:
        return -(-len(self.order) // self.batch_size)
