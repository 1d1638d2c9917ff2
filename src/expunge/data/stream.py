"""`StreamData`: a `Dataset` that is read on demand, in worker processes and through pinned memory."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset, default_collate

from ..errors import ExpungeError
from .batch import Augment, Batch, Inputs
from .samples import RAW_BATCH, Data
from .transforms import Normalize, prepare

# batch size of the pass that reads labels
LABEL_BATCH = 256
# positions of a pass that the seed of its workers depends on
SEED_POSITIONS = 4096


class StreamData(Data):
    """Samples of a map-style `Dataset`, read on demand through a `DataLoader`.

    An item is a pair (x, y), or a dict that contains the label and named inputs.

    Labels come from the first of these that applies:

    1. the argument `labels`;
    2. the attribute `targets` or `labels` of the data set, if the first, middle and last item carry the same labels;
    3. one pass over all items.

    Args:
        dataset: The data set, with a length and items by position.
        labels: Labels (N,). Default: found as above.
        label: The entry of a dict item that holds the label. Default "labels".
        ids: One id per sample. Default: the position is the id.
        groups: {column: one value per sample}, for requests such as `Split.by_group(..., "user", "alice")`.
        classes: Class names. Default: the attribute `classes` of the data set.
        augment: Augmentation of training batches, such as `CropFlip()`.
        normalize: Normalisation of all batches.
        name: Name for records.
        read_as: Source options that the images were read with.
        texts: The text that each sample was made of, by which copies are found.
        workers: Processes that read items ahead of the steps. Default 0: read in this process.
        collate: Function that makes a batch of items. Default: the one of `DataLoader`.

    Raises:
        ExpungeError: The data set has no length or no items by position, or the number of labels differs from it.

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
        self._set(
            torch.as_tensor(labels if labels is not None else self._find_labels()),
            ids,
            groups,
            getattr(dataset, "classes", None) if classes is None else classes,
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
        checked = sorted({0, count // 2, count - 1}) if count else []
        for name in ("targets", "labels"):
            labels = getattr(self.dataset, name, None)
            if labels is not None and _labels_agree(labels, checked, count, self._read_labels(checked, 0)):
                return labels
        return self._read_labels(range(count), self.workers)

    def _read_labels(self, positions: Sequence[int], workers: int) -> Tensor:
        """Read the labels (n,) of the items at `positions`, without a change to torch's random state."""
        loader = DataLoader(
            Subset(self.dataset, positions),
            LABEL_BATCH,
            num_workers=workers,
            collate_fn=self.collate,
            generator=torch.Generator(),
        )
        with torch.random.fork_rng(devices=[]):
            parts = [_one_per_sample(torch.as_tensor(self._split_item(item)[1])) for item in loader]
        return torch.cat(parts) if parts else torch.empty(0, dtype=torch.int64)

    def _split_item(self, item: Any) -> tuple[Inputs, Tensor]:
        """The inputs and the label of an item, or of a collated batch of items."""
        if isinstance(item, Mapping):
            if self.label not in item:
                raise ExpungeError(
                    f"items have the entries {sorted(item)} and no '{self.label}'; name the entry with the label (`label=`)."
                )
            inputs = {k: v for k, v in item.items() if k != self.label and isinstance(v, Tensor)}
            return inputs, item[self.label]
        return item[0], item[1]

    def batches(
        self, order: Tensor, batch_size: int, device: torch.device, augment: torch.Generator | None
    ) -> Iterator[Batch]:
        loader = DataLoader(
            self.dataset,
            batch_sampler=_PositionBatches(order, batch_size),
            num_workers=self.workers,
            collate_fn=self.collate,
            pin_memory=device.type == "cuda",
            generator=_worker_generator(order),
        )
        for number, item in enumerate(loader):
            x, _ = self._split_item(item)
            at = order[number * batch_size : (number + 1) * batch_size]
            batch = Batch(x, self.labels[at], at).to(device)
            yield prepare(batch, self.augment, augment, self.normalize)

    def raw_inputs(self, count: int | None = None) -> Iterator[Inputs]:
        """Yield the inputs as the data set gives them: see `Data.raw_inputs`."""
        positions = range(len(self) if count is None else min(count, len(self)))
        # A function of the user may pad items to the longest of their batch.
        size = RAW_BATCH if self.collate in (None, default_collate) else 1
        loader = DataLoader(
            Subset(self.dataset, positions),
            size,
            num_workers=self.workers,
            collate_fn=self.collate,
            # another seed for another count, so that random transforms in workers show
            generator=torch.Generator().manual_seed(len(positions)),
        )
        return (self._split_item(item)[0] for item in loader)

    def fingerprint(self) -> str:
        # Reading all inputs only to name the data costs an epoch. Labels, ids and length stand for them.
        return self._hash_labels().hexdigest()


def _one_per_sample(labels: Tensor) -> Tensor:
    """Labels with a leading axis of samples; whole numbers of shape (B, 1) become (B,)."""
    column = labels.ndim == 2 and labels.shape[1] == 1 and not labels.is_floating_point()
    return labels.reshape(-1) if column or labels.ndim == 0 else labels


def _labels_agree(labels: Any, positions: Sequence[int], count: int, of_items: Tensor) -> bool:
    """Whether `labels` has `count` entries, and those at `positions` equal the labels `of_items`.

    They differ under a `target_transform`, in a wrapper, or if the attribute holds names instead of numbers.
    """
    try:
        return len(labels) == count and [int(labels[k]) for k in positions] == of_items.tolist()
    except (TypeError, ValueError, LookupError):
        return False


def _worker_generator(order: Tensor) -> torch.Generator:
    """Make the generator that seeds the workers of a pass. It differs for each shuffled order."""
    # By default a loader draws from torch's global state: evaluating a model would change its next steps.
    digest = hashlib.sha256(order[:SEED_POSITIONS].numpy().tobytes()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))


class _PositionBatches:
    """A batch sampler over a tensor of positions. It makes no Python list of all positions."""

    def __init__(self, order: Tensor, batch_size: int):
        self.order, self.batch_size = order, batch_size

    def __iter__(self) -> Iterator[list[int]]:
        for start in range(0, len(self.order), self.batch_size):
            yield self.order[start : start + self.batch_size].tolist()

    def __len__(self) -> int:
        return -(-len(self.order) // self.batch_size)
