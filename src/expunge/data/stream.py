"""Data sets that are read as they are needed, through a `DataLoader`: pinned memory and workers ahead of the steps."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset

from ..errors import ExpungeError
from .batch import Augment, Batch, Inputs, Normalize, prepared
from .samples import Data


class StreamData(Data):
    """A map-style `Dataset` that is read as it is needed: items are (x, y) pairs, or dicts with a label among them.

    Labels are taken from the argument, from the data set's `targets` or `labels` where the first, middle and last item carry
    the same, or read once. `label` names the entry of dict items that holds the label. Raises `ExpungeError` for data sets
    without length or items.
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
        workers: int = 0,
        collate: Callable[[list[Any]], Any] | None = None,
    ):
        if not hasattr(dataset, "__len__") or not hasattr(dataset, "__getitem__"):
            raise ExpungeError(
                f"{type(dataset).__name__} has no length or no items by position; give a map-style Dataset."
            )
        self.dataset, self.label, self.workers, self.collate = dataset, label, workers, collate
        found = labels if labels is not None else self._find_labels()
        self._set(
            torch.as_tensor(found),
            ids,
            groups,
            getattr(dataset, "classes", None) if classes is None else classes,
            augment,
            normalize,
            name,
            read_as,
        )
        if len(self) != len(dataset):  # type: ignore[arg-type]
            raise ExpungeError(f"{len(self)} labels came with {len(dataset)} samples; give one a sample.")  # type: ignore[arg-type]

    def _find_labels(self) -> Any:
        count = len(self.dataset)  # type: ignore[arg-type]
        few = sorted({0, count // 2, count - 1}) if count else []
        for name in ("targets", "labels"):
            found = getattr(self.dataset, name, None)
            if found is not None and _are(found, few, count, self._read(few, 0)):
                return found
        return self._read(range(count), self.workers)

    def _read(self, places: Sequence[int], workers: int) -> Tensor:
        """The labels (n,) that the items at `places` carry. Their other contents may be drawn anew; no later draw moves."""
        loader = DataLoader(
            Subset(self.dataset, places),
            256,
            num_workers=workers,
            collate_fn=self.collate,
            generator=torch.Generator(),
        )
        with torch.random.fork_rng(devices=[]):
            parts = [torch.as_tensor(self._pair(item)[1]).reshape(-1) for item in loader]
        return torch.cat([torch.empty(0, dtype=torch.int64), *parts])

    def _pair(self, item: Any) -> tuple[Inputs, Tensor]:
        if isinstance(item, Mapping):
            if self.label not in item:
                raise ExpungeError(
                    f"items have the entries {sorted(item)}; name the one with the label (`label=`)."
                )
            return {k: v for k, v in item.items() if k != self.label and isinstance(v, Tensor)}, item[
                self.label
            ]
        return item[0], item[1]

    def batches(
        self, order: Tensor, batch_size: int, device: torch.device, augment: torch.Generator | None
    ) -> Iterator[Batch]:
        loader = DataLoader(
            self.dataset,
            batch_sampler=_Chunks(order, batch_size),
            num_workers=self.workers,
            collate_fn=self.collate,
            pin_memory=device.type == "cuda",
            generator=_own_stream(order),
        )
        for number, item in enumerate(loader):
            x, _ = self._pair(item)
            at = order[number * batch_size : (number + 1) * batch_size]
            yield prepared(Batch(x, self.labels[at], at).to(device), self.augment, augment, self.normalize)

    def fingerprint(self) -> str:
        # reading every sample only to name the data would cost an epoch: labels, ids and length stand for it
        return self._hash_labels().hexdigest()


def _are(found: Any, places: Sequence[int], count: int, carried: Tensor) -> bool:
    """Whether `found` are the labels of `count` samples: those at `places` are what the items carry (a `target_transform`, a
    wrapper, or names instead of numbers make them others)."""
    try:
        return len(found) == count and [int(found[k]) for k in places] == carried.tolist()
    except (TypeError, ValueError, LookupError):
        return False


def _own_stream(order: Tensor) -> torch.Generator:
    """What a loader's workers are seeded from: another for each shuffled pass. Without it a loader draws from torch's
    global state, and a look at the accuracies would change the steps after it."""
    name = hashlib.sha256(order[:4096].numpy().tobytes()).digest()
    return torch.Generator().manual_seed(int.from_bytes(name[:7], "big"))


class _Chunks:
    """The batches of positions that a `DataLoader` reads, without a Python list of all of them."""

    def __init__(self, order: Tensor, batch_size: int):
        self.order, self.batch_size = order, batch_size

    def __iter__(self) -> Iterator[list[int]]:
        for start in range(0, len(self.order), self.batch_size):
            yield self.order[start : start + self.batch_size].tolist()

    def __len__(self) -> int:
        return -(-len(self.order) // self.batch_size)
