"""Samples on their way to a model: `Batch`, the two kinds of `Data` (resident tensors, streamed data sets), `Samples`.

Data that fits lives on the device as it was given (images as uint8) and is converted and augmented there, batch by
batch; data that does not fit streams through a `DataLoader`. The code above this file cannot tell the two apart.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, SequentialSampler

from ..errors import ExpungeError
from .batch import Augment, Batch, CropFlip, Inputs, Normalize, as_float, each, moved, prepared, several
from .samples import Data, Samples, as_text
from .stream import StreamData

__all__ = [
    "Augment", "Batch", "CropFlip", "Data", "Inputs", "Normalize", "Samples", "StreamData", "TensorData", "as_data", "as_float", "as_text",
]  # fmt: skip

RESIDENT_SHARE = 0.5  # of a GPU's free memory that a data set may take before it stays on the host


class TensorData(Data):
    """Samples that fit in memory: `x` one tensor (N, ...), or a dict of tensors, and labels `y` (N,).

    Images are best kept as uint8 (N, C, H, W): a batch becomes float32 in [0, 1] on the device. `fingerprint` names the
    samples where something else than their contents does. Raises `ExpungeError` when the lengths differ.
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
        normalize: Normalize | None = None,
        name: str = "tensors",
        read_as: str = "",
        fingerprint: str | None = None,
    ):
        self.x = x = each(x, torch.as_tensor)  # of NumPy's arrays too
        if isinstance(x, dict) and (augment is not None or normalize is not None):
            raise ExpungeError(several(x))
        self._set(torch.as_tensor(y), ids, groups, classes, augment, normalize, name, read_as)
        lengths = {len(v) for v in (x.values() if isinstance(x, dict) else [x])}
        if lengths != {len(self)}:
            raise ExpungeError(
                f"{sorted(lengths)} inputs came with {len(self)} labels; give one label an input."
            )
        self._on: dict[torch.device, tuple[Inputs, Tensor]] = {}
        self._fingerprint = fingerprint

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
            self._on[device] = (each(self.x, lambda t: t.to(device)), self.labels.to(device))
        return self._on[device]

    def batches(
        self, order: Tensor, batch_size: int, device: torch.device, augment: torch.Generator | None
    ) -> Iterator[Batch]:
        resident = self._resident(device)
        x, y = resident or (self.x, self.labels)
        place = moved(order, y.device)
        for start in range(0, len(order), batch_size):
            at = place[start : start + batch_size]
            batch = Batch(each(x, lambda t: t[at]), y[at], order[start : start + batch_size])  # noqa: B023
            if resident is None:
                batch = batch.to(device)
            yield prepared(batch, self.augment, augment, self.normalize)

    def fingerprint(self) -> str:
        if self._fingerprint is None:
            digest = self._hash_labels()
            for key, t in sorted(self.x.items()) if isinstance(self.x, dict) else [("x", self.x)]:
                digest.update(f"{key} {t.dtype} {tuple(t.shape)}".encode())
                digest.update(t.contiguous().cpu().reshape(-1).view(torch.uint8).numpy().data)
            self._fingerprint = digest.hexdigest()
        return self._fingerprint


def as_data(source: Any, **options: Any) -> Data:
    """Any of: `Data`, a pair of tensors or arrays (x, y), a map-style `Dataset`, a `DataLoader` that reads all of one (its data
    set, workers and collate function are kept). `options` go to `TensorData` or `StreamData`. Raises `ExpungeError` otherwise."""
    if isinstance(source, Data):
        return source
    if isinstance(source, DataLoader):
        _check_sampler(source)
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


def _check_sampler(loader: DataLoader[Any]) -> None:
    """Raise `ExpungeError` for a loader that may leave samples of its data set out: they would count as trained on."""
    drawn: Any = loader.sampler if loader.batch_sampler is None else loader.batch_sampler
    drawn = drawn.sampler if type(drawn) is BatchSampler else drawn
    if hasattr(loader.dataset, "__len__") and not isinstance(drawn, SequentialSampler | RandomSampler):
        raise ExpungeError(
            f"the DataLoader has a {type(drawn).__name__}, which may leave samples out, and all of its data set would be taken; "
            "give the data set itself, or a torch.utils.data.Subset with the samples that are meant."
        )
