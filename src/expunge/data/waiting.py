"""Requests that wait for an answer: nothing is trained on their samples until a run answers them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ..errors import SplitError
from .samples import Samples
from .split_sets import SplitSets
from .validation_set import validation_without


@dataclass(frozen=True, eq=False)
class WaitingRequest:
    """Hold a request that waits.

    Args:
        number: Its number in the project.
        index: Positions (n,) of its training samples, and of copies of them that leave too.
        classes: Numbers of the classes that it names as a whole.
        note: Which copies of its samples the data has under other ids, and what is done about them; empty without copies.
        recorded: The same without ids, for a record.
    """

    number: int
    index: Tensor
    classes: tuple[int, ...] = ()
    note: str = ""
    recorded: str = ""


def leave_out(split: Any, requests: Sequence[WaitingRequest]) -> Any:
    """Return a split that trains on no sample of requests that wait.

    Their samples leave retain and validation set, and those that the original was trained on are withheld. Samples of the
    forget set stay in it. Test samples of the classes that they name leave the test set, as the retain set has none.

    Args:
        split: The split of a run (`SplitSets`).
        requests: The requests that wait, and that the run does not answer.

    Raises:
        SplitError: They leave no sample to retain, or no test sample.
    """
    assert isinstance(split, SplitSets)
    if not requests:
        return split
    data = split.forget.data
    positions = torch.cat([r.index for r in requests]).unique()
    trained = torch.isin(split.retain.index, positions)
    classes = torch.tensor(sorted({k for r in requests for k in r.classes}), dtype=torch.int64)
    test = split.test.take(~torch.isin(split.test.labels, classes)) if len(classes) else split.test
    if trained.all() or not len(test):
        names = " and ".join(f"request {r.number} ({len(r.index):,} samples)" for r in requests)
        raise SplitError(
            f"{names}, which this run does not answer, leave no {'retained' if trained.all() else 'test'} samples beside its forget set. "
            "A run that answers them too would have none either: leave a withdrawn request out, or train a new model."
        )
    validation = validation_without(split, positions)
    return replace(
        split,
        retain=Samples(data, split.retain.index[~trained]),
        validation=validation.take(~torch.isin(validation.labels, classes)) if len(classes) else validation,
        withheld=Samples(data, torch.cat([split.withheld.index, split.retain.index[trained]]).sort().values),
        test=test,
        waiting={r.number: len(r.index) for r in requests},
        drawn=split.request,
    )
