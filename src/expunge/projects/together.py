"""Requests that one run cannot answer together, because no sample would be left to train or to test on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from shlex import quote

import torch
from torch import Tensor

from ..data.samples import Samples
from ..data.split import Split
from ..data.waiting import WaitingRequest
from ..errors import SplitError
from .requests import ProjectRequest

# requests that a message names
SHOWN = 10
# A request of a plan that is not entered has no number.
Drawn = tuple[ProjectRequest | None, Split]


def check_together(drawn: Sequence[Drawn], waiting: Sequence[WaitingRequest], ledger: Path) -> None:
    """Check that a run for several requests, beside those that wait, leaves samples to retain and to test.

    Args:
        drawn: The requests of the run, with their splits.
        waiting: The requests that wait, and that the run does not answer: it trains on none of their samples.
        ledger: The ledger, for the command that withdraws a request.

    Raises:
        SplitError: They leave none. The requests are named, with what can be done.
    """
    if len(drawn) + len(waiting) < 2 or not drawn:
        return
    splits = [split for _, split in drawn]
    retain, test = (_common([getattr(split, name) for split in splits]) for name in ("retain", "test"))
    for request in waiting:
        retain[request.index] = False
        test &= ~torch.isin(splits[0].test.data.labels, torch.tensor(request.classes, dtype=torch.int64))
    if retain.any() and test.any():
        return
    names = [
        f"{f'request {entry.number}' if entry else 'the new request'} ({len(split.forget):,} samples)"
        for entry, split in drawn
    ]
    names += [f"request {r.number} ({len(r.index):,} samples, waits)" for r in waiting]
    numbers = [entry.number for entry, _ in drawn if entry] + [r.number for r in waiting]
    example = numbers[-1] if numbers else "NUMBER"
    if len(names) > SHOWN:
        names = [*names[:SHOWN], f"{len(names) - SHOWN:,} others"]
    withdraw = f"`expunge ledger attach {quote(str(ledger))} {example} --status withdrawn`"
    raise SplitError(
        f"{', '.join(names[:-1])} and {names[-1]} together leave no {'test' if retain.any() else 'training'} samples to retain, and no "
        "run trains on the samples of a request that waits, so no run can answer any of them. If a person takes a request back, leave "
        f"it out, or use {withdraw} if the ledger has it. Otherwise retire the model: "
        "delete it and every copy of it, train a new one without their samples, and begin a new project with it."
    )


def _common(sets: Sequence[Samples]) -> Tensor:
    """Return which samples of the data are in all sets, bool (N,)."""
    common = torch.ones(len(sets[0].data), dtype=torch.bool)
    for samples in sets:
        common &= torch.isin(torch.arange(len(common)), samples.index)
    return common
