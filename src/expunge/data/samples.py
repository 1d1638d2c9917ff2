"""`Data`, all samples of one source in a fixed order, and `Samples`, some of them by their positions."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, is_dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import ExpungeError, raise_all
from .batch import Augment, Batch, Normalize


def as_text(values: Any) -> np.ndarray:
    """Text (N,): variable-width as it came, everything else as fixed-width."""
    found = np.asarray(values)
    return found if isinstance(found.dtype, np.dtypes.StringDType) else found.astype(str)


def _said(function: Any) -> str:
    """A function of the user's by its name and its settings, not by its address."""
    if isinstance(function, partial):
        named = sorted(function.keywords.items())
        given = [*map(_said, function.args), *(f"{k}={_said(v)}" for k, v in named)]
        return f"{_said(function.func)}({', '.join(given)})"
    if is_dataclass(function) or not callable(function):
        return str(function)
    return str(getattr(function, "__qualname__", type(function).__qualname__))


class Data(ABC):
    """All samples of one source in a fixed order; a `Split` points into it by position.

    Attributes: `labels` (N,) int64 on the CPU; `ids` (N,) array of strings or None (then the position is the id);
    `groups` {column: (N,) array}; `classes` names or None; `augment` applied to training batches;
    `normalize` to all; `name`; `read_as`, with which options of the source its images were read.
    """

    labels: Tensor
    ids: np.ndarray | None
    groups: Mapping[str, np.ndarray]
    classes: Sequence[str] | None
    augment: Augment | None
    normalize: Normalize | None
    name: str
    read_as: str = ""

    def __len__(self) -> int:
        return len(self.labels)

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
    ) -> None:
        if labels.ndim != 1 or labels.is_floating_point() or labels.is_complex():
            raise ExpungeError(
                f"labels are {labels.dtype} of shape {tuple(labels.shape)}; give one whole number a sample, shape (N,)."
            )
        self.labels = labels.to("cpu", torch.int64)
        self.ids = None if ids is None else as_text(ids)
        self.groups = {k: np.asarray(v) for k, v in (groups or {}).items()}
        self.classes = None if classes is None or not len(classes) else [str(c) for c in classes]
        self.augment, self.normalize, self.name, self.read_as = augment, normalize, name, read_as
        n = len(self.labels)
        problems = [
            f"`{k}` has {len(v)} entries for {n} samples; give one a sample."
            for k, v in {"ids": self.ids, **self.groups}.items()
            if v is not None and len(v) != n
        ]
        raise_all(problems)

    @abstractmethod
    def batches(
        self, order: Tensor, batch_size: int, device: torch.device, augment: torch.Generator | None
    ) -> Iterator[Batch]:
        """Batches of the samples at the positions `order` (CPU), in that order; augmented if a generator is given."""

    @abstractmethod
    def fingerprint(self) -> str:
        """SHA-256 (hex) of what the samples are, so that a split can be recognised."""

    def about(self, kept: Tensor | None = None) -> dict[str, Any]:
        """All but inputs and labels, of the samples at `kept` or of all, as `TensorData` and `StreamData` take it."""
        at = slice(None) if kept is None else kept.numpy()
        return {
            "ids": None if self.ids is None else self.ids[at],
            "groups": {k: v[at] for k, v in self.groups.items()},
            **{k: getattr(self, k) for k in ("classes", "augment", "normalize", "name", "read_as")},
        }

    @property
    def preparation(self) -> str:
        """How inputs are made ready, as text that is the same in every process: part of what a run and a model depend on."""
        return f"augment {_said(self.augment)}, normalize {self.normalize}, read as {self.read_as}"

    @property
    def inputs_text(self) -> str:
        """What a model sees of a sample, as the options of a data source: size and normalisation; empty where nothing is said."""
        said = [self.read_as] if self.read_as else []
        if self.normalize is not None:
            of = self.normalize
            said += [f"{k}={','.join(f'{v:g}' for v in getattr(of, k))}" for k in ("mean", "std")]
        return "&".join(said)

    def samples(self, index: Tensor | None = None) -> Samples:
        """The samples at `index`, or all of them."""
        return Samples(self, torch.arange(len(self)) if index is None else index)

    def _hash_labels(self) -> Any:
        digest = hashlib.sha256(self.labels.contiguous().numpy().data)
        if self.ids is not None:
            # in parts: one text of all of them would be as large as they are
            for start in range(0, len(self.ids), 1 << 16):
                digest.update(("\0" * (start > 0) + "\0".join(self.ids[start : start + (1 << 16)])).encode())
        return digest


@dataclass(frozen=True, eq=False)
class Samples:
    """Some samples of a `Data`: the positions `index` (n,) on the CPU, in ascending order unless given otherwise."""

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
        """The samples' ids: the data's own, or positions as text."""
        if self.data.ids is None:
            return [str(i) for i in self.index.tolist()]
        return self.data.ids[self.index.numpy()].tolist()

    def take(self, where: Tensor) -> Samples:
        """The samples that `where`, bool (n,) or positions into this set, picks."""
        return Samples(self.data, self.index[where])

    def batches(
        self,
        batch_size: int,
        *,
        device: torch.device | str = "cpu",
        shuffle: torch.Generator | None = None,
        augment: torch.Generator | None = None,
    ) -> Iterator[Batch]:
        """One pass: shuffled if a CPU generator is given, augmented if one is given, the last batch perhaps short."""
        order = self.index if shuffle is None else self.index[torch.randperm(len(self), generator=shuffle)]
        return self.data.batches(order, batch_size, torch.device(device), augment)
