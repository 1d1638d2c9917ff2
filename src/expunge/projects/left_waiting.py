"""The requests of a project that wait while a run answers others: it may not train on their samples."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from contextlib import suppress

import torch
from torch import Tensor

from ..data.forget_set import class_numbers, samples_in_group
from ..data.id_problems import ids_of
from ..data.samples import Data
from ..data.waiting import WaitingRequest
from ..errors import SplitError
from .prepared import Prepared, Say, say_nothing
from .requests import ProjectRequest
from .returned import with_copies
from .wanted import Wanted


def left_waiting(
    prepared: Prepared, answered: Sequence[ProjectRequest], say: Say = say_nothing
) -> list[WaitingRequest]:
    """Return the requests that wait and are not answered by a run, with their samples in today's data and copies of these."""
    numbers, train = {entry.number for entry in answered}, prepared.setting.train
    entries = [r for r in prepared.requests if r.waits and r.number not in numbers]
    if not entries:
        return []
    places = {name: at for at, name in enumerate(ids_of(train))}
    waiting = []
    for entry in entries:
        members, classes = torch.zeros(len(train), dtype=torch.bool), tuple[int, ...]()
        # the class or group may be gone from the data
        with suppress(SplitError), warnings.catch_warnings(action="ignore"):
            members, classes = _members(entry.wanted, train)
        members[[places[name] for name in entry.what["ids"] if name in places]] = True
        waiting.append(WaitingRequest(entry.number, members.nonzero()[:, 0], classes))
    pins, promised = prepared.pins, {entry.number: entry.what["ids"] for entry in entries}
    waiting = with_copies(pins.fingerprints, pins.current, train, waiting, promised, prepared.settings.copies)
    for request in waiting:
        if request.note:
            say(request.note)
    return waiting


def _members(asked: Wanted, train: Data) -> tuple[Tensor, tuple[int, ...]]:
    """Return the samples that the class or group of a request has today, bool (N,), and the numbers of its classes."""
    if asked.group:
        column, _, value = asked.group.partition("=")
        return samples_in_group(column, [value], train), ()
    classes = class_numbers(asked.classes, train, train.num_classes) if asked.classes else []
    return torch.isin(train.labels, torch.tensor(classes, dtype=torch.int64)), tuple(classes)
