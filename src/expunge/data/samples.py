"""`Data`, all samples of one source in a fixed order, and `Samples`, some of them by position."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, is_dataclass
from functools import partial
from typing import Any
from zlib import crc32

import numpy as np
import torch
from torch import Tensor

from ..errors import ExpungeError, raise_all
from ..summaries import short
from .batch import Augment, Batch, Inputs
from .id_forms import as_group, as_text, encodable, frozen

# ids that are joined to one text at a time: all of them joined take as much memory as the ids
ID_BLOCK = 1 << 16
# samples that `raw_inputs` yields at a time
RAW_BATCH = 256


def _describe(function: Any) -> str:
    """The name and the arguments of a user's function, without its address in memory."""
    if isinstance(function, partial):
        keywords = sorted(function.keywords.items())
        arguments = [*map(_describe, function.args), *(f"{k}={_describe(v)}" for k, v in keywords)]
        return f"{_describe(function.func)}({', '.join(arguments)})"
    if is_dataclass(function) or not callable(function):
        return str(function)
    return str(getattr(function, "__qualname__", type(function).__qualname__))


class Data(ABC):
    """All samples of one source in a fixed order. A `Split` refers to them by position.

    `TensorData` holds the samples in memory. `StreamData` reads them from a `Dataset`.

    Attributes:
        labels: Labels on the CPU: class numbers (N,), int64, or anything else a task takes, such as floats (N,) of a
            regression or rows (N, K) of a multi-label task.
        ids: One text per sample (N,), read-only, or None. Without ids the position is the id.
        groups: {column: values (N,)}, such as the user that each sample belongs to.
        classes: Class names, or None.
        augment: Augmentation of training batches, or None.
        normalize: Normalisation of all batches, or None.
        name: Name for records.
        read_as: Source options that the images were read with, such as "size=64".
        texts: The text that each sample was made of (N,), or None. Copies are found by it.
        root: The folder that the ids are paths below, so that a path of this computer names a sample. Empty if they are no paths.
        row_ids: Whether the ids are numbers of rows, because the table has no column of ids.
    """

    labels: Tensor
    ids: np.ndarray | None
    texts: np.ndarray | None = None
    groups: Mapping[str, np.ndarray]
    classes: Sequence[str] | None
    augment: Augment | None
    normalize: Any | None
    name: str
    read_as: str = ""
    root: str = ""
    row_ids: bool = False
    # how often `look_again` found a change, and the checksum that it noted
    _changes: int = 0
    _noted: int | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        labels = (
            f"{self.num_classes} classes" if self.has_classes else f"labels {tuple(self.labels.shape[1:])}"
        )
        groups = f"groups {short(', '.join(self.groups))}" if self.groups else ""
        ids = "ids" if self.ids is not None else ""
        parts = [f"{len(self):,} samples", labels, self._describe_inputs(), ids, groups]
        return f"{type(self).__name__}({short(self.name)!r}, {', '.join(filter(None, parts))})"

    def _describe_inputs(self) -> str:
        """Return in a few words what the inputs are, for `repr`."""
        return ""

    def _set(
        self,
        labels: Tensor,
        ids: Any,
        groups: Any,
        classes: Any,
        augment: Any,
        normalize: Any,
        name: str,
        read_as: str,
        texts: Any = None,
    ) -> None:
        """Check the attributes and set them."""
        if labels.ndim == 0 or labels.is_complex():
            raise ExpungeError(
                f"labels are {labels.dtype} of shape {tuple(labels.shape)}; give one label per sample, shape (N,) or (N, K)."
            )
        whole = labels.ndim == 1 and not labels.is_floating_point()
        self.labels = labels.to("cpu", torch.int64) if whole else labels.detach().cpu()
        self.ids = None if ids is None else frozen(as_text(ids), ids)
        # texts of variable width: in an array of fixed width, each would take as much memory as the longest
        self.texts = None if texts is None else np.asarray(texts, dtype=np.dtypes.StringDType())
        self.groups = {k: frozen(as_group(v), v) for k, v in (groups or {}).items()}
        self.classes = None if classes is None or not len(classes) else [encodable(str(c)) for c in classes]
        self.augment, self.normalize, self.name, self.read_as = augment, normalize, name, read_as
        n = len(self.labels)
        problems = [
            f"`{k}` has {len(v)} entries for {n} samples; give one entry per sample."
            for k, v in {"ids": self.ids, "texts": self.texts, **self.groups}.items()
            if v is not None and len(v) != n
        ]
        raise_all(problems)

    @property
    def has_classes(self) -> bool:
        """Whether labels are class numbers: one whole number per sample."""
        return self.labels.ndim == 1 and self.labels.dtype == torch.int64

    @property
    def num_classes(self) -> int:
        """Number of class names, or one more than the highest class number; 0 where labels are no class numbers."""
        last = int(self.labels.max()) if self.has_classes and len(self) else -1
        return max(len(self.classes or ()), last + 1) if last >= 0 else 0

    @abstractmethod
    def batches(
        self, order: Tensor, batch_size: int, device: torch.device, augment: torch.Generator | None
    ) -> Iterator[Batch]:
        """Yield batches of samples on a device.

        Args:
            order: Positions (n,) of the samples, on the CPU, in the order to read them.
            batch_size: Samples per batch. The last batch may have fewer.
            device: Where the batches go.
            augment: CPU generator of the augmentation, or None for no augmentation.
        """

    @abstractmethod
    def raw_inputs(self, count: int | None = None) -> Iterator[Inputs]:
        """Yield the inputs of the samples in order, some at a time, without augmentation.

        Args:
            count: Number of samples, from the first. Default: all.
        """

    @property
    def version(self) -> object:
        """What changes when samples that are held in memory change. It says nothing of the inputs of a `Dataset`."""
        return self._changes

    def look_again(self) -> None:
        """Change `version` if labels, ids or inputs in memory have changed since the last call or fingerprint, whoever changed them."""
        now = self._checksum()
        self._changes += self._noted not in (None, now)
        self._noted = now

    def _checksum(self) -> int:
        """A fast checksum of what is held in memory."""
        return crc32(self._hash_labels().digest())

    @abstractmethod
    def inputs_at(self, index: Tensor) -> Iterator[Inputs]:
        """Yield the inputs of the samples at the positions `index` (n,): see `raw_inputs`."""

    @abstractmethod
    def fingerprint(self) -> str:
        """Return a SHA-256 (hex) that names the samples. A split hash contains it."""

    def attributes(self, positions: Tensor | None = None) -> dict[str, Any]:
        """Return everything but inputs and labels, as keyword arguments of `TensorData` and `StreamData`.

        Args:
            positions: The samples to keep. Default: all.
        """
        at = slice(None) if positions is None else positions.numpy()
        return {
            "ids": None if self.ids is None else self.ids[at],
            "texts": None if self.texts is None else self.texts[at],
            "groups": {k: v[at] for k, v in self.groups.items()},
            **{k: getattr(self, k) for k in ("classes", "augment", "normalize", "name", "read_as")},
        }

    @property
    def preparation(self) -> str:
        """How inputs are prepared, as text that is equal in every process.

        Cache keys and saved run states contain it.
        """
        return f"augment {_describe(self.augment)}, normalize {self.normalize}, read as {self.read_as}"

    @property
    def input_options(self) -> str:
        """Size and normalisation of the inputs, as the options of a data source. Empty if none is known."""
        options = [self.read_as] if self.read_as else []
        if self.normalize is not None:
            normalize = self.normalize
            options += [f"{k}={','.join(f'{v:g}' for v in getattr(normalize, k))}" for k in ("mean", "std")]
        return "&".join(options)

    def samples(self, index: Tensor | None = None) -> Samples:
        """Return the samples at the positions `index`. Default: all samples."""
        return Samples(self, torch.arange(len(self)) if index is None else index)

    def _hash_labels(self) -> Any:
        """A SHA-256 object that contains the labels and ids."""
        digest = hashlib.sha256(self.labels.contiguous().numpy().data)
        if self.ids is not None:
            for start in range(0, len(self.ids), ID_BLOCK):
                digest.update(("\0" * (start > 0) + "\0".join(self.ids[start : start + ID_BLOCK])).encode())
        return digest


@dataclass(frozen=True, eq=False)
class Samples:
    """Some samples of a `Data`, such as the forget set of a split.

    Args:
        data: The data that holds the samples.
        index: Positions (n,) of the samples in `data`, on the CPU. Splits keep them in ascending order.

    Example:
        >>> for batch in split.retain.batches(128, device="cuda"):
        ...     loss = task.loss(model, batch).mean()
    """

    data: Data
    index: Tensor

    def __len__(self) -> int:
        return len(self.index)

    @property
    def labels(self) -> Tensor:
        """Labels (n,), on the CPU."""
        return self.data.labels[self.index]

    @property
    def ids(self) -> list[str]:
        """The ids of the samples. Without ids in the data, these are positions as text."""
        if self.data.ids is None:
            return [str(i) for i in self.index.tolist()]
        return self.data.ids[self.index.numpy()].tolist()

    def __repr__(self) -> str:
        return f"Samples({len(self):,} of {self.data!r})"

    def take(self, which: Tensor) -> Samples:
        """Return some of these samples.

        Args:
            which: A bool tensor (n,), or positions in this set.
        """
        return Samples(self.data, self.index[which])

    def batches(
        self,
        batch_size: int,
        *,
        device: torch.device | str = "cpu",
        shuffle: torch.Generator | None = None,
        augment: torch.Generator | None = None,
    ) -> Iterator[Batch]:
        """Yield batches of one pass over the samples.

        Args:
            batch_size: Samples per batch. The last batch may have fewer.
            device: Where the batches go.
            shuffle: CPU generator that draws the order. Default: the order of `index`.
            augment: CPU generator of the augmentation. Default: no augmentation.
        """
        order = self.index if shuffle is None else self.index[torch.randperm(len(self), generator=shuffle)]
        return self.data.batches(order, batch_size, torch.device(device), augment)
