"""Hashes of the contents of forgotten samples that are named by position: another order of the data is found by them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor

from .batch import Inputs
from .input_hashes import READ_TWICE, kept_random_state, named_inputs, sample_hashes


class Contents(Protocol):
    """A `Data`, as far as contents are concerned."""

    @property
    def version(self) -> object:
        """What changes when samples that are held in memory change."""

    def __len__(self) -> int: ...

    def look_again(self) -> None:
        """Change `version` if labels, ids or inputs in memory have changed."""

    def inputs_at(self, index: Tensor) -> Iterator[Inputs]:
        """Yield the inputs of the samples at the positions `index` (n,)."""


class Positioned(Protocol):
    """A request that may name its samples by position."""

    @property
    def scenario(self) -> str:
        """How the forget set was drawn."""

    @property
    def data(self) -> str:
        """Fingerprint of the data if the ids are positions, else empty."""

    @property
    def ids(self) -> tuple[str, ...]:
        """Ids of the samples."""

    @property
    def contents(self) -> tuple[str, ...]:
        """Hashes of their contents; empty if they are not known."""


def contents_of(data: Contents, index: Tensor) -> tuple[str, ...]:
    """Return a hash (32 hex digits) of the inputs of each sample. Only these samples are read.

    Args:
        data: The data.
        index: Positions (n,) of the samples, int64.

    Returns:
        The hashes (n,). Empty if the inputs are no tensors, or if the data set gives other inputs each time it is read.
    """
    with kept_random_state():
        hashes = _hashes(data, index)
        if hashes is None:
            return ()
        # in another order, so that random transforms draw other numbers
        few = torch.arange(min(len(index), READ_TWICE)).flip(0)
        again = _hashes(data, torch.cat([index[few], index[:1]]))
    if again is None or not np.array_equal(again[: len(few)], hashes[few.numpy()]):
        return ()
    return tuple(row.tobytes().hex() for row in hashes)


def _hashes(data: Contents, index: Tensor) -> np.ndarray | None:
    """Return the hashes (n, 2) of samples; None if the inputs are no tensors."""
    parts = []
    for x in data.inputs_at(index):
        if (inputs := named_inputs(x)) is None:
            return None
        parts.append(sample_hashes(inputs))
    return np.concatenate(parts) if parts else np.empty((0, 2), np.uint64)


def changed_problems(requests: Sequence[Positioned], data: Contents) -> list[str]:
    """Return which requests by position have samples with other contents now, one sentence each.

    Each request is compared once with a `Data`, until `compare_again`.
    """
    if data not in _COMPARED or _COMPARED[data][0] != data.version:
        _COMPARED[data] = (data.version, {})
    known, problems = _COMPARED[data][1], []
    for r in requests:
        if r.data and r.contents and id(r) not in known:
            # the request is kept, so that its `id` names no other one
            known[id(r)] = (r, _count_changed(r, data))
        if count := known.get(id(r), (r, 0))[1]:
            problems.append(
                f"{count:,} of the {len(r.ids):,} samples of an earlier request ({r.scenario}), which names them by position, have other "
                "contents than when it was answered: the training data is in another order, or has changed. Give the data as it was, or "
                "give every sample an id of its own."
            )
    return problems


def _count_changed(request: Positioned, data: Contents) -> int:
    index = torch.tensor([int(name) for name in request.ids], dtype=torch.int64)
    if len(index) and int(index.max()) >= len(data):
        return len(index)
    now = contents_of(data, index)
    return sum(a != b for a, b in zip(request.contents, now, strict=True)) if now else 0


def compare_again(data: Contents) -> None:
    """Let the next run read the forgotten samples of a `Data` again: its data set or its memory may have changed in place."""
    data.look_again()
    _COMPARED.pop(data, None)


def comparison_of(data: Contents) -> object:
    """Return an object that is another one once `compare_again` was called. `changed_problems` makes it."""
    return _COMPARED[data][1]


def changed_under_ids(request: Positioned, data: Contents, positions: Mapping[str, Sequence[int]]) -> int:
    """Return how many samples of a request that names them by id have other contents now.

    Args:
        request: The request.
        data: The data.
        positions: {id: positions of its samples}.
    """
    kept: dict[str, set[str]] = {}
    for name, content in zip(request.ids, request.contents, strict=False):
        kept.setdefault(name, set()).add(content)
    pairs = [(name, at) for name in kept for at in positions.get(name, ())]
    now = contents_of(data, torch.tensor([at for _, at in pairs], dtype=torch.int64)) if pairs else ()
    return sum(content not in kept[name] for (name, _), content in zip(pairs, now, strict=False))


# {data: (its version, {request: (request, number of changed samples)})}: a run and its audits look for the same requests
_COMPARED: WeakKeyDictionary[Contents, tuple[object, dict[int, tuple[Positioned, int]]]] = WeakKeyDictionary()
