"""The data that models are trained and evaluated on.

`TensorData` keeps all samples on the device, images as uint8, and converts and augments each batch there. `StreamData`
reads samples that do not fit in memory through a `DataLoader`. Methods and audits use both in the same way.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from zlib import crc32

import numpy as np
import torch
from torch import Tensor

from ..errors import ExpungeError
from ..summaries import short
from .batch import Augment, Batch, Inputs, map_inputs, to_device
from .items import UnusableItem, as_input
from .label_values import numbered
from .samples import RAW_BATCH, Data
from .transforms import Normalize, named_inputs_problem, prepare

# share of a GPU's free memory that a data set may take; a larger one stays on the host
RESIDENT_SHARE = 0.5


def _as_tensor(x: Any) -> Tensor:
    """The inputs as a tensor. Raises `ExpungeError`."""
    try:
        return as_input(x) if isinstance(x, np.ndarray) else torch.as_tensor(x)
    except (UnusableItem, TypeError, ValueError, RuntimeError) as error:
        raise ExpungeError(
            f"the inputs are a {type(x).__name__} that makes no tensor ({error}); give a tensor or an array of numbers, shape (N, ...)."
        ) from error


def _bytes(t: Tensor) -> memoryview:
    """The bytes of a tensor, without a copy where it lies in one piece on the CPU."""
    return t.detach().contiguous().cpu().reshape(-1).view(torch.uint8).numpy().data


def _version(t: Tensor) -> int:
    """The number of changes in place of a tensor. Tensors that inference mode made count none."""
    return 0 if t.is_inference() else t._version


class TensorData(Data):
    """Samples in memory.

    Images are best kept as uint8 (N, C, H, W). Each batch of them becomes float32 in [0, 1] on the device.

    Args:
        x: Inputs (N, ...), or a dict of such tensors for a model with several inputs.
        y: Labels (N,), whole numbers from 0, or names.
        ids: One id per sample. Default: the position is the id.
        groups: {column: one value per sample}, for requests such as `Split.by_group(..., "user", "alice")`.
        classes: Class names, in the order of their numbers. Default: the labels, if they are names, in alphabetical order (in
            numerical order if all are numbers).
        augment: Augmentation of training batches, such as `CropFlip()`.
        normalize: Normalisation of all batches.
        name: Name for records.
        read_as: Source options that the images were read with.
        texts: The text that each sample was made of, by which copies are found.
        fingerprint: SHA-256 (hex) that names the samples. Default: the hash of inputs, labels and ids.

    Raises:
        ExpungeError: The lengths differ, labels are not whole numbers, or named inputs come with `augment` or `normalize`.

    Example:
        >>> train = TensorData(images, labels, ids=names, groups={"user": users}, augment=CropFlip(4))
    """

    def __init__(
        self,
        x: Inputs,
        y: Tensor | Sequence[Any] | np.ndarray,
        *,
        ids: Sequence[str] | np.ndarray | None = None,
        groups: Mapping[str, Sequence[Any] | np.ndarray] | None = None,
        classes: Sequence[str] | None = None,
        augment: Augment | None = None,
        normalize: Normalize | None = None,
        name: str = "tensors",
        read_as: str = "",
        texts: Sequence[str] | np.ndarray | None = None,
        fingerprint: str | None = None,
    ):
        # The inputs may be NumPy arrays, and the labels names.
        self.x = x = map_inputs(x, _as_tensor)
        y, classes = numbered(y, classes)
        if isinstance(x, dict) and (augment is not None or normalize is not None):
            raise ExpungeError(named_inputs_problem(x))
        self._set(y, ids, groups, classes, augment, normalize, name, read_as, texts)
        lengths = {len(v) for v in (x.values() if isinstance(x, dict) else [x])}
        if lengths != {len(self)}:
            raise ExpungeError(
                f"the data has {sorted(lengths)} inputs and {len(self)} labels; give one label per input."
            )
        self._on_device: dict[torch.device, tuple[Inputs, Tensor]] = {}
        self._resident_version: object = None
        self._fingerprint, self._fingerprint_version = fingerprint, self.version

    @property
    def version(self) -> object:
        """What changes when the tensors are replaced, or changed in place by torch. `look_again` sees what NumPy wrote."""
        tensors = [*(self.x.values() if isinstance(self.x, dict) else [self.x]), self.labels]
        return (self._changes, *((t.data_ptr(), _version(t)) for t in tensors))

    def _checksum(self) -> int:
        """A checksum of labels, ids and inputs. NumPy shares no memory of an accelerator."""
        found = super()._checksum()
        for t in self.x.values() if isinstance(self.x, dict) else [self.x]:
            if t.device.type == "cpu":
                found = crc32(_bytes(t), found)
        return found

    def _resident(self, device: torch.device) -> tuple[Inputs, Tensor] | None:
        """All inputs and labels on `device`, copied there once. None if they do not fit."""
        if device.type == "cuda" and device.index is None:
            # "cuda" and "cuda:0" are one device and need one copy.
            device = torch.device("cuda", torch.cuda.current_device())
        if self._resident_version != self.version:
            self._on_device.clear()
            self._resident_version = self.version
        if device not in self._on_device:
            if device.type == "cuda":
                tensors = self.x.values() if isinstance(self.x, dict) else [self.x]
                size = sum(t.nbytes for t in tensors if t.device != device)
                if size > RESIDENT_SHARE * torch.cuda.mem_get_info(device)[0]:
                    return None
            self._on_device[device] = (map_inputs(self.x, lambda t: t.to(device)), self.labels.to(device))
        return self._on_device[device]

    def batches(
        self, order: Tensor, batch_size: int, device: torch.device, augment: torch.Generator | None
    ) -> Iterator[Batch]:
        resident = self._resident(device)
        x, y = resident or (self.x, self.labels)
        positions = to_device(order, y.device)
        for start in range(0, len(order), batch_size):
            at = positions[start : start + batch_size]
            batch = Batch(map_inputs(x, lambda t: t[at]), y[at], order[start : start + batch_size])  # noqa: B023
            if resident is None:
                batch = batch.to(device)
            yield prepare(batch, self.augment, augment, self.normalize)

    def raw_inputs(self, count: int | None = None) -> Iterator[Inputs]:
        """Yield the tensors of the samples as they are held: see `Data.raw_inputs`."""
        end = len(self) if count is None else min(count, len(self))
        for start in range(0, end, RAW_BATCH):
            yield map_inputs(self.x, lambda t: t[start : min(start + RAW_BATCH, end)])  # noqa: B023

    def inputs_at(self, index: Tensor) -> Iterator[Inputs]:
        for part in index.split(RAW_BATCH):
            yield map_inputs(self.x, lambda t: t[part.to(t.device)])  # noqa: B023

    def _describe_inputs(self) -> str:
        named = self.x if isinstance(self.x, dict) else {"x": self.x}
        return short(", ".join(f"{k} {t.dtype} {tuple(t.shape[1:])}" for k, t in named.items()), 60)

    def fingerprint(self) -> str:
        if self._fingerprint is None or self._fingerprint_version != self.version:
            self._fingerprint_version = self.version
            digest = self._hash_labels()
            for key, t in sorted(self.x.items()) if isinstance(self.x, dict) else [("x", self.x)]:
                digest.update(f"{key} {t.dtype} {tuple(t.shape)}".encode())
                digest.update(_bytes(t))
            self._fingerprint = digest.hexdigest()
        if self._noted is None:
            self._noted = self._checksum()
        return self._fingerprint
