"""Samples that a user names as never seen by the original."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TypeAlias

import torch
from torch import Tensor

from ..errors import SplitError
from .forget_set import SHOWN_IDS, read_ids, samples_with_ids
from .id_forms import encodable
from .samples import Data

Ids: TypeAlias = str | Path | Iterable[str | int]


def named_samples(ids: Ids, train: Data, test: Data) -> tuple[Tensor, Tensor]:
    """Find the samples that a user names as never seen. Without ids in the data, an id is a position in the training data.

    Args:
        ids: A list of ids, or a text file with one id per line. All lie in the training data, or all in the test data.
        train: The training data.
        test: The test data.

    Returns:
        The samples of the training data, bool (N,), and of the test data, bool (M,).

    Raises:
        SplitError: Lists ids that are unknown or given twice, or lie in both sets.
    """
    wanted = read_ids(ids, SplitError) if isinstance(ids, str | Path) else [encodable(str(i)) for i in ids]
    if not wanted:
        raise SplitError("no id of an unseen sample is given; give at least one, or leave unseen_ids out.")
    of_train, of_test = (set() if d.ids is None else set(map(str, d.ids)) for d in (train, test))
    in_test = [name for name in wanted if name in of_test - of_train]
    in_train = [name for name in wanted if name in of_train]
    if in_test and in_train:
        raise SplitError(
            f"{len(in_train)} ids of unseen samples are in the training set (first: {in_train[:SHOWN_IDS]}) and {len(in_test)} in "
            f"the test set (first: {in_test[:SHOWN_IDS]}); name samples of one set."
        )
    none = [torch.zeros(len(d), dtype=torch.bool) for d in (train, test)]
    try:
        if in_test:
            return none[0], samples_with_ids(wanted, test, train)
        return samples_with_ids(wanted, train, test), none[1]
    except SplitError as error:
        raise SplitError([f"unseen samples: {text}" for text in error.problems]) from error


def check_not_requested(requested: Tensor, unseen: Tensor, data: Data) -> None:
    """Raise `SplitError` if a sample is requested by its id and named as never seen.

    Args:
        requested: Bool (N,), the samples that are requested by id.
        unseen: Bool (N,), the samples that are named as never seen.
        data: The training data.
    """
    if len(both := data.samples((requested & unseen).nonzero()[:, 0])):
        raise SplitError(
            f"{len(both)} requested ids are also named as never seen (first: {both.ids[:SHOWN_IDS]}); a model has nothing to "
            "forget of them, so remove each from one list."
        )
