"""What a data set comes as, and parts of one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Subset

from ..data.samples import Data
from ..data.stream import StreamData
from ..data.tensors import TensorData
from ..errors import ExpungeError


@dataclass(frozen=True)
class Source:
    """Training and test data, the class names, the shape of one input (C, H, W) and a name for records."""

    train: Data
    test: Data
    classes: list[str]
    shape: tuple[int, ...]
    name: str


def held_out(labels: np.ndarray, classes: int) -> np.ndarray:
    """Bool (N,): a fifth of each class, the same at every call."""
    held = np.zeros(len(labels), bool)
    for k in range(classes):
        of = np.flatnonzero(labels == k)
        held[of[np.random.RandomState(0).permutation(len(of))[: round(0.2 * len(of))]]] = True
    return held


def shape_of(data: Data) -> tuple[int, ...]:
    """The shape of one input; of `input_ids`, or else of the first, where a model takes several."""
    x = next(iter(data.samples(torch.arange(1)).batches(1))).x
    if isinstance(x, dict):
        x = x["input_ids"] if "input_ids" in x else next(iter(x.values()))
    return tuple(x.shape[1:])


def part_of(data: Data, what: str, limit: int, seed: int) -> Data:
    """A stratified part of `data`, exactly `limit` samples in their old order."""
    if limit > len(data):
        raise ExpungeError(f"a limit of {limit} is more than the {len(data)} {what} samples there are.")
    draw = torch.Generator().manual_seed(seed)
    members = [(data.labels == k).nonzero()[:, 0] for k in data.labels.unique()]
    counts = [limit * len(of) // len(data) for of in members]
    # what rounding down leaves goes to the classes that lost most by it
    order = sorted(range(len(members)), key=lambda k: -(limit * len(members[k]) % len(data)))
    for k in order[: limit - sum(counts)]:
        counts[k] += 1
    chosen = [of[torch.randperm(len(of), generator=draw)[:n]] for of, n in zip(members, counts, strict=True)]
    return _at(data, torch.cat(chosen).sort().values)


def _at(data: Data, kept: Tensor) -> Data:
    """`data` with the samples at `kept` alone."""
    more = data.about(kept)
    if isinstance(data, TensorData):
        x = {k: v[kept] for k, v in data.x.items()} if isinstance(data.x, dict) else data.x[kept]
        return TensorData(x, data.labels[kept], **more)
    if isinstance(data, StreamData):
        given: dict[str, Any] = {"label": data.label, "workers": data.workers, "collate": data.collate}
        # positions as an array: a list of them would hold an object for each sample
        return StreamData(Subset(data.dataset, kept.numpy()), labels=data.labels[kept], **given, **more)  # type: ignore[arg-type]
    raise ExpungeError(f"a part of a {type(data).__name__} cannot be taken; leave the options out.")
