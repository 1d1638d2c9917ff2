"""Data on its way to a model: batches, samples, tensors, streams, and the split that says what is forgotten."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..lazy import lazy_exports

if TYPE_CHECKING:
    from .batch import Batch as Batch
    from .convert import as_data as as_data
    from .samples import Data as Data
    from .samples import Samples as Samples
    from .split import Split as Split
    from .stream import StreamData as StreamData
    from .tensors import TensorData as TensorData
    from .transforms import CropFlip as CropFlip
    from .transforms import Normalize as Normalize

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "Batch": "batch",
        "CropFlip": "transforms",
        "Data": "samples",
        "Normalize": "transforms",
        "Samples": "samples",
        "Split": "split",
        "StreamData": "stream",
        "TensorData": "tensors",
        "as_data": "convert",
    },
)
