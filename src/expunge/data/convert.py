"""Turn what a user has (tensors, a `Dataset`, a `DataLoader`) into `Data`."""

from __future__ import annotations

from typing import Any

from torch.utils.data import BatchSampler, DataLoader, RandomSampler, SequentialSampler

from ..errors import ExpungeError
from .samples import Data
from .stream import StreamData
from .tensors import TensorData


def as_data(source: Any, **options: Any) -> Data:
    """Convert a source of samples to `Data`.

    Args:
        source: One of these:

            - `Data`, which is returned as it is;
            - a pair (x, y) of tensors or arrays, where x may be a dict of them;
            - a map-style `Dataset`;
            - a `DataLoader` over a whole data set. Its data set, workers and collate function are kept.
        **options: Keyword arguments for `TensorData` or `StreamData`.

    Returns:
        The samples as `TensorData` for a pair, else as `StreamData`.

    Raises:
        ExpungeError: The source is none of these, or the loader may leave samples out.

    Example:
        >>> train = as_data((x, y), groups={"user": users})
    """
    if isinstance(source, Data):
        return source
    if isinstance(source, DataLoader):
        _check_sampler(source)
        of_loader = {"workers": source.num_workers, "collate": source.collate_fn}
        return StreamData(source.dataset, **{**of_loader, **options})
    if isinstance(source, tuple | list) and len(source) == 2:
        return TensorData(source[0], source[1], **options)
    if hasattr(source, "__getitem__"):
        return StreamData(source, **options)
    raise ExpungeError(
        f"data is a {type(source).__name__}; give (x, y) tensors, a Dataset, a DataLoader or expunge Data."
    )


def _check_sampler(loader: DataLoader[Any]) -> None:
    """Raise `ExpungeError` if the loader may leave samples out: they would count as trained on."""
    sampler: Any = loader.sampler if loader.batch_sampler is None else loader.batch_sampler
    sampler = sampler.sampler if type(sampler) is BatchSampler else sampler
    if hasattr(loader.dataset, "__len__") and not isinstance(sampler, SequentialSampler | RandomSampler):
        raise ExpungeError(
            f"the DataLoader has a {type(sampler).__name__}, which may leave samples out, but Expunge reads its whole data set; "
            "give the data set itself, or a torch.utils.data.Subset with the samples you mean."
        )
    # over a part of the positions, or with fewer draws
    drawn = min(len(sampler), len(sampler.data_source)) if hasattr(loader.dataset, "__len__") else 0
    if hasattr(loader.dataset, "__len__") and drawn < len(loader.dataset):
        raise ExpungeError(
            f"the {type(sampler).__name__} of the DataLoader draws {drawn} of {len(loader.dataset)} samples, but Expunge reads its whole "
            "data set; give a torch.utils.data.Subset with the samples that the model was trained on."
        )
