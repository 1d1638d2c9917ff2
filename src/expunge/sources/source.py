"""`Source`: the data that a spec names. Functions that hold out a test set or take a part of a data set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Subset

from ..data.label_values import class_list
from ..data.relabel import relabelled
from ..data.samples import Data
from ..data.stream import StreamData
from ..data.tensors import TensorData
from ..errors import ExpungeError

# share of each class that is held out for testing where a source has no test set
TEST_SHARE = 0.2


@dataclass(frozen=True)
class Source:
    """Training and test data with what a model and a record need to know of them.

    Args:
        train: Training data.
        test: Test data.
        classes: Class names, in the order of their numbers.
        shape: Shape of one input: (C, H, W) for images.
        name: Name for records.
        root: The folder that the ids are paths below. Empty if they are no paths.
        row_ids: Whether the ids are numbers of rows, because the table has no column of ids.
    """

    train: Data
    test: Data
    classes: list[str]
    shape: tuple[int, ...]
    name: str
    root: str = ""
    row_ids: bool = False

    def __post_init__(self) -> None:
        """Bring the names of a user's source into the order of their numbers. Raises `ExpungeError`."""
        object.__setattr__(self, "classes", class_list(self.classes) or [])


def held_out(labels: np.ndarray, classes: int) -> np.ndarray:
    """Draw a fifth of each class for testing, the same samples at every call: bool (N,)."""
    held = np.zeros(len(labels), bool)
    for k in range(classes):
        of_class = np.flatnonzero(labels == k)
        order = np.random.RandomState(0).permutation(len(of_class))
        held[of_class[order[: round(TEST_SHARE * len(of_class))]]] = True
    return held


def input_shape(data: Data) -> tuple[int, ...]:
    """Return the shape of one input. Of several named inputs, it is that of `input_ids`, else of the first."""
    x = next(iter(data.samples(torch.arange(1)).batches(1))).x
    if isinstance(x, dict):
        x = x["input_ids"] if "input_ids" in x else next(iter(x.values()))
    return tuple(x.shape[1:])


def with_classes(source: Source, known: Sequence[str]) -> Source:
    """Return data whose classes have the numbers that they have in `known`, where all of its classes are known.

    Data with other classes is returned as it is. Without class names, labels are the numbers already.
    """
    unknown = set(source.classes) - set(known)
    usable = source.train.has_classes and source.train is not source.test
    if unknown or len(set(known)) < len(known) or not usable:
        return source
    unnamed = source.train.classes is None
    if unnamed and list(source.classes) != list(known[: len(source.classes)]):
        # the numbers mean other classes now
        return source
    numbers = torch.tensor([known.index(name) for name in source.classes])
    # a user's function may return the same object again, so both stay as they are
    train, test = (
        relabelled(data, data.labels if unnamed else numbers[data.labels], known)
        for data in (source.train, source.test)
    )
    return replace(source, train=train, test=test, classes=list(known))


def stratified_part(data: Data, part: str, limit: int, seed: int) -> Data:
    """Draw exactly `limit` samples with the class shares of `data`, and keep their order.

    Args:
        data: The data.
        part: "training" or "test", for the message.
        limit: Number of samples.
        seed: Seed of the draw.

    Raises:
        ExpungeError: The data has fewer samples, or is a subclass of `Data` that cannot be divided.
    """
    if limit > len(data):
        raise ExpungeError(
            f"a limit of {limit} is more than the {len(data)} {part} samples; give at most that."
        )
    generator = torch.Generator().manual_seed(seed)
    members = [(data.labels == k).nonzero()[:, 0] for k in data.labels.unique()]
    counts = [limit * len(of_class) // len(data) for of_class in members]
    # The rounding leaves some samples over. They go to the classes that it took most from.
    order = sorted(range(len(members)), key=lambda k: -(limit * len(members[k]) % len(data)))
    for k in order[: limit - sum(counts)]:
        counts[k] += 1
    drawn = [
        of_class[torch.randperm(len(of_class), generator=generator)[:count]]
        for of_class, count in zip(members, counts, strict=True)
    ]
    return part_at(data, torch.cat(drawn).sort().values)


def part_at(data: Data, positions: Tensor) -> Data:
    """The samples of `data` at `positions`, as data of the same class."""
    attributes = data.attributes(positions)
    part: Data | None = None
    if isinstance(data, TensorData):
        x = {k: v[positions] for k, v in data.x.items()} if isinstance(data.x, dict) else data.x[positions]
        part = TensorData(x, data.labels[positions], **attributes)
    if isinstance(data, StreamData):
        reading: dict[str, Any] = {"label": data.label, "workers": data.workers, "collate": data.collate}
        # An array of positions: a list would hold one Python object per sample.
        subset = Subset(data.dataset, positions.numpy())  # type: ignore[arg-type]
        part = StreamData(subset, labels=data.labels[positions], **reading, **attributes)
    if part is not None:
        part.root, part.row_ids = data.root, data.row_ids
        return part
    raise ExpungeError(
        f"a part of a {type(data).__name__} cannot be taken; leave the options limit and test_limit out."
    )
