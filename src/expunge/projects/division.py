"""Keep the division of the data in training and test samples that it had at the first request.

A source without a test set of its own draws one from all samples. It draws another one when samples are added or removed:
then trained samples would be test samples, and samples that the model never saw would be retained.
"""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import ConcatDataset

from ..data.id_forms import as_text
from ..data.samples import Data
from ..data.stream import StreamData
from ..data.tensors import TensorData
from ..errors import ExpungeError
from ..sources.source import Source, part_at
from ..sources.table_rows import TEST
from .fingerprints import CONTENT, NAME, Fingerprints, id_hashes, moved


def divided_as(pinned: Fingerprints, source: Source) -> tuple[Source, Fingerprints]:
    """Return the data in the division of the first request, and its fingerprints. New samples stay where they are.

    Raises:
        ExpungeError: The data is a subclass of `Data` that cannot be divided.
    """
    source = _with_known_test_ids(pinned, source)
    current = Fingerprints.of(source, pinned)
    if source.train.ids is None or source.test.ids is None:
        return source, current
    elsewhere = moved(pinned, current)
    if not any(which.any() for which in elsewhere.values()):
        return source, current
    leave = {part: torch.from_numpy(which) for part, which in elsewhere.items()}
    parts = {"train": source.train, "test": source.test}
    stay = {part: part_at(data, (~leave[part]).nonzero()[:, 0]) for part, data in parts.items()}
    come = {part: part_at(data, leave[part].nonzero()[:, 0]) for part, data in parts.items()}
    train, test = _joined(stay["train"], come["test"]), _joined(stay["test"], come["train"])
    train.root = test.root = source.root
    divided = Source(train, test, source.classes, source.shape, source.name, source.root)
    return divided, Fingerprints.of(divided, pinned)


def _with_known_test_ids(pinned: Fingerprints, source: Source) -> Source:
    """Return the data with the test ids of the first request, with or without `test/` before them.

    A source writes `test/` before all test ids as long as one of them is a training id too, so a row that is deleted or added gives
    all of them the other form. Ids are renamed if most of the renamed samples have the contents that the project knows.
    """
    data = source.test
    if data.ids is None or source.train.ids is None:
        return source
    names, train = list(map(str, data.ids)), set(map(str, source.train.ids))
    known = np.isin(id_hashes(names, pinned.key), pinned.test[:, NAME])
    if known.all():
        return source
    others = [name.removeprefix(TEST) if name.startswith(TEST) else f"{TEST}{name}" for name in names]
    free = np.array([name not in train for name in others])
    renamed = free & ~known & np.isin(id_hashes(others, pinned.key), pinned.test[:, NAME])
    if not renamed.any():
        return source
    test = copy.copy(data)
    test.ids = as_text(
        [other if new else name for name, other, new in zip(names, others, renamed, strict=True)]
    )
    with_others = replace(source, test=test)
    same = np.isin(Fingerprints.of(with_others, pinned).test[:, CONTENT], pinned.test[:, CONTENT])
    return with_others if 2 * same[renamed].sum() > renamed.sum() else source


def _joined(first: Data, second: Data) -> Data:
    """The samples of two parts of one source as one data set with the attributes of the first."""
    if not len(second):
        return first
    joined = _concatenated(first, second)
    joined.root, joined.row_ids = first.root, first.row_ids
    return joined


def _concatenated(first: Data, second: Data) -> Data:
    attributes: dict[str, Any] = {**first.attributes(), **_per_sample(first, second)}
    labels = torch.cat([first.labels, second.labels])
    if isinstance(first, TensorData) and isinstance(second, TensorData):
        return TensorData(_inputs(first, second), labels, **attributes)
    if isinstance(first, StreamData) and isinstance(second, StreamData):
        reading: dict[str, Any] = {"label": first.label, "workers": first.workers, "collate": first.collate}
        return StreamData(
            ConcatDataset([first.dataset, second.dataset]), labels=labels, **reading, **attributes
        )
    raise ExpungeError(
        "the training and test samples are divided otherwise than at the first request; give a test set of its own."
    )


def _per_sample(first: Data, second: Data) -> dict[str, Any]:
    """The attributes that have one entry per sample."""
    if first.ids is None or second.ids is None:
        raise ExpungeError("samples without ids cannot move between training and test data; give ids.")
    groups = {k: np.concatenate([v, second.groups[k]]) for k, v in first.groups.items() if k in second.groups}
    texts = None
    if first.texts is not None and second.texts is not None:
        texts = np.concatenate([first.texts, second.texts])
    return {"ids": np.concatenate([first.ids, second.ids]), "groups": groups, "texts": texts}


def _inputs(first: TensorData, second: TensorData) -> Any:
    if isinstance(first.x, dict) and isinstance(second.x, dict):
        rest: dict[str, Tensor] = second.x
        return {name: torch.cat([t, rest[name]]) for name, t in first.x.items()}
    return torch.cat([first.x, second.x])  # type: ignore[list-item]
