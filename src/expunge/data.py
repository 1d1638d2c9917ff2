"""Samples on their way to a model: `Batch`, the two kinds of `Data` (resident tensors, streamed data sets), `Samples`.

Data that fits lives on the device as it was given (images as uint8) and is converted and augmented there, batch by
batch; data that does not fit streams through a `DataLoader`. The code above this file cannot tell the two apart.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from .errors import ExpungeError

Inputs: TypeAlias = Tensor | dict[str, Tensor]
Augment: TypeAlias = Callable[[Tensor, torch.Generator], Tensor]

RESIDENT_SHARE = 0.5  # of a GPU's free memory that a data set may take before it stays on the host


def _apply(x: Inputs, function: Callable[[Tensor], Tensor]) -> Inputs:
    return {k: function(v) for k, v in x.items()} if isinstance(x, dict) else function(x)


def moved(t: Tensor, device: torch.device) -> Tensor:
    """`t` on `device`. On its way to a GPU it is pinned first: a copy from other memory waits for the GPU's queue."""
    if device.type == "cuda" and t.device.type == "cpu" and not t.is_pinned():
        t = t.pin_memory()
    return t.to(device, non_blocking=True)


@dataclass(slots=True)
class Batch:
    """Samples for one step: inputs `x` (B, ...) or a dict of them, labels `y` (B,), positions in their data (B,)."""

    x: Inputs
    y: Tensor
    index: Tensor

    def __len__(self) -> int:
        return len(self.y)

    @property
    def shape(self) -> tuple[Any, ...]:
        """The shape of one sample's input, or of each of its inputs by name."""
        if isinstance(self.x, dict):
            return tuple((k, tuple(v.shape[1:])) for k, v in sorted(self.x.items()))
        return tuple(self.x.shape[1:])

    def to(self, device: torch.device | str) -> Batch:
        """The same samples on `device`."""
        move = lambda t: moved(t, torch.device(device))  # noqa: E731
        return Batch(_apply(self.x, move), move(self.y), self.index)

    def part(self, keep: Tensor | slice) -> Batch:
        """The samples that `keep` picks: bool, positions, or a slice, which copies nothing."""
        if isinstance(keep, slice):
            return Batch(_apply(self.x, lambda t: t[keep]), self.y[keep], self.index[keep])
        at = keep.cpu()  # positions found here: a GPU would be waited for to count them
        at = at.nonzero()[:, 0] if at.dtype == torch.bool else at
        there = moved(at, self.y.device)
        return Batch(_apply(self.x, lambda t: t[there]), self.y[there], self.index[at])

    @staticmethod
    def join(*batches: Batch) -> Batch:
        """One batch of all the samples, in the order given."""
        first = batches[0].x
        if isinstance(first, dict):
            x: Inputs = {k: torch.cat([b.x[k] for b in batches]) for k in first}  # type: ignore[index]
        else:
            x = torch.cat([b.x for b in batches])  # type: ignore[misc]
        return Batch(x, torch.cat([b.y for b in batches]), torch.cat([b.index for b in batches]))


def as_text(values: Any) -> np.ndarray:
    """Text (N,): variable-width as it came, everything else as fixed-width."""
    found = np.asarray(values)
    return found if isinstance(found.dtype, np.dtypes.StringDType) else found.astype(str)


def as_float(x: Inputs) -> Inputs:
    """uint8 images as float32 in [0, 1]; everything else as it is."""
    return _apply(x, lambda t: t.float().div_(255) if t.dtype == torch.uint8 else t)


@dataclass(frozen=True)
class CropFlip:
    """Random crop after zero padding, and horizontal flip, on whole batches (B, C, H, W) where they are."""

    pad: int = 4
    flip: bool = True

    def __call__(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """`x` with a shift of at most `pad` pixels and a fair-coin flip for each image, drawn from `generator` (CPU)."""
        n, _, h, w = x.shape
        draw = torch.randint(0, 2 * self.pad + 1, (2, n), generator=generator)
        coin = torch.randint(0, 2, (n,), generator=generator, dtype=torch.bool)
        top, left, turned = moved(torch.cat([draw, coin[None]]), x.device)  # one transfer
        rows = top[:, None] + torch.arange(h, device=x.device)  # (B, H)
        cols = left[:, None] + torch.arange(w, device=x.device)  # (B, W)
        if self.flip:
            cols = torch.where(turned[:, None] > 0, cols.flip(1), cols)
        padded = torch.nn.functional.pad(x, (self.pad,) * 4)
        # advanced indices around a slice put the indexed axes first: (B, H, W, C), which is channels_last storage
        return padded[
            torch.arange(n, device=x.device)[:, None, None], :, rows[:, :, None], cols[:, None, :]
        ].permute(0, 3, 1, 2)


class Data(ABC):
    """All samples of one source in a fixed order; a `Split` points into it by position.

    Attributes: `labels` (N,) int64 on the CPU; `ids` (N,) array of strings or None (then the position is the id);
    `groups` {column: (N,) array}; `classes` names or None; `augment` applied to training batches; `name`.
    """

    labels: Tensor
    ids: np.ndarray | None
    groups: Mapping[str, np.ndarray]
    classes: Sequence[str] | None
    augment: Augment | None
    name: str

    def __len__(self) -> int:
        return len(self.labels)

    def _set(self, labels: Tensor, ids: Any, groups: Any, classes: Any, augment: Any, name: str) -> None:
        self.labels = labels.to("cpu", torch.int64)
        self.ids = None if ids is None else as_text(ids)
        self.groups = {k: np.asarray(v) for k, v in (groups or {}).items()}
        self.classes, self.augment, self.name = classes, augment, name
        n = len(self.labels)
        problems = [
            f"`{k}` has {len(v)} entries for {n} samples; give one a sample."
            for k, v in {"ids": self.ids, **self.groups}.items()
            if v is not None and len(v) != n
        ]
        if self.labels.ndim != 1:
            problems.append(
                f"labels have shape {tuple(labels.shape)}; give one integer a sample, shape (N,)."
            )
        if problems:
            raise ExpungeError(problems)

    @abstractmethod
    def batches(
        self, order: Tensor, batch_size: int, device: torch.device, augment: torch.Generator | None
    ) -> Iterator[Batch]:
        """Batches of the samples at the positions `order` (CPU), in that order; augmented if a generator is given."""

    @abstractmethod
    def fingerprint(self) -> str:
        """SHA-256 (hex) of what the samples are, so that a split can be recognised."""

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


class TensorData(Data):
    """Samples that fit in memory: `x` one tensor (N, ...), or a dict of tensors, and labels `y` (N,).

    Images are best kept as uint8 (N, C, H, W): a batch becomes float32 in [0, 1] on the device. Raises `ExpungeError`
    when the lengths differ.
    """

    def __init__(
        self,
        x: Inputs,
        y: Tensor,
        *,
        ids: Sequence[str] | np.ndarray | None = None,
        groups: Mapping[str, Sequence[Any] | np.ndarray] | None = None,
        classes: Sequence[str] | None = None,
        augment: Augment | None = None,
        name: str = "tensors",
    ):
        self.x = x
        self._set(y, ids, groups, classes, augment, name)
        lengths = {len(v) for v in (x.values() if isinstance(x, dict) else [x])}
        if lengths != {len(self)}:
            raise ExpungeError(
                f"{sorted(lengths)} inputs came with {len(self)} labels; give one label an input."
            )
        self._on: dict[torch.device, tuple[Inputs, Tensor]] = {}
        self._fingerprint: str | None = None

    def _resident(self, device: torch.device) -> tuple[Inputs, Tensor] | None:
        """The whole data on `device`, moved there once; None where it would not fit."""
        if device.type == "cuda" and device.index is None:
            # "cuda" and "cuda:0" are one place, not two copies
            device = torch.device("cuda", torch.cuda.current_device())
        if device not in self._on:
            if device.type == "cuda":
                parts = self.x.values() if isinstance(self.x, dict) else [self.x]
                size = sum(t.nbytes for t in parts if t.device != device)
                if size > RESIDENT_SHARE * torch.cuda.mem_get_info(device)[0]:
                    return None
            self._on[device] = (_apply(self.x, lambda t: t.to(device)), self.labels.to(device))
        return self._on[device]

    def batches(
        self, order: Tensor, batch_size: int, device: torch.device, augment: torch.Generator | None
    ) -> Iterator[Batch]:
        resident = self._resident(device)
        x, y = resident or (self.x, self.labels)
        place = moved(order, y.device)
        for start in range(0, len(order), batch_size):
            at = place[start : start + batch_size]
            batch = Batch(_apply(x, lambda t: t[at]), y[at], order[start : start + batch_size])  # noqa: B023
            if resident is None:
                batch = batch.to(device)
            yield _prepared(batch, self.augment, augment)

    def fingerprint(self) -> str:
        if self._fingerprint is None:
            digest = self._hash_labels()
            for key, t in sorted(self.x.items()) if isinstance(self.x, dict) else [("x", self.x)]:
                digest.update(f"{key} {t.dtype} {tuple(t.shape)}".encode())
                digest.update(t.contiguous().cpu().reshape(-1).view(torch.uint8).numpy().data)
            self._fingerprint = digest.hexdigest()
        return self._fingerprint


class StreamData(Data):
    """A map-style `Dataset` that is read as it is needed: items are (x, y) pairs, or dicts with a label among them.

    Labels are taken from the argument, from the data set's `targets` or `labels`, or read once. `label` names the
    entry of dict items that holds the label. Raises `ExpungeError` for data sets without length or items.
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
        name: str = "dataset",
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
            torch.as_tensor(found), ids, groups, classes or getattr(dataset, "classes", None), augment, name
        )
        if len(self) != len(dataset):  # type: ignore[arg-type]
            raise ExpungeError(f"{len(self)} labels came with {len(dataset)} samples; give one a sample.")  # type: ignore[arg-type]

    def _find_labels(self) -> Any:
        for name in ("targets", "labels"):
            if getattr(self.dataset, name, None) is not None:
                return getattr(self.dataset, name)
        loader = DataLoader(
            self.dataset, 256, num_workers=self.workers, collate_fn=self.collate, generator=torch.Generator()
        )
        return torch.cat([torch.as_tensor(self._pair(item)[1]).reshape(-1) for item in loader])

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
            yield _prepared(Batch(x, self.labels[at], at).to(device), self.augment, augment)

    def fingerprint(self) -> str:
        # reading every sample only to name the data would cost an epoch: labels, ids and length stand for it
        return self._hash_labels().hexdigest()


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


def _prepared(batch: Batch, transform: Augment | None, generator: torch.Generator | None) -> Batch:
    if transform is not None and generator is not None and isinstance(batch.x, Tensor):
        # before the conversion: a quarter of the bytes to move; row-major, as models that take a view of it expect
        batch.x = transform(batch.x, generator).contiguous()
    batch.x = as_float(batch.x)
    return batch


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


def as_data(source: Any, **options: Any) -> Data:
    """Any of: `Data`, a pair of tensors or arrays (x, y), a map-style `Dataset`, a `DataLoader` (its data set, workers
    and collate function are kept). `options` go to `TensorData` or `StreamData`. Raises `ExpungeError` otherwise."""
    if isinstance(source, Data):
        return source
    if isinstance(source, DataLoader):
        kept = {"workers": source.num_workers, "collate": source.collate_fn}
        return StreamData(source.dataset, **{**kept, **options})
    if isinstance(source, tuple | list) and len(source) == 2:
        x = source[0] if isinstance(source[0], dict) else torch.as_tensor(source[0])
        return TensorData(x, torch.as_tensor(source[1]), **options)
    if hasattr(source, "__getitem__"):
        return StreamData(source, **options)
    raise ExpungeError(
        f"data came as {type(source).__name__}; give (x, y) tensors, a Dataset, a DataLoader or expunge Data."
    )
