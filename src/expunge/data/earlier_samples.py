"""Find the samples of earlier requests in today's data."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from weakref import WeakKeyDictionary, ref

import numpy as np
import torch
from torch import Tensor

from ..errors import SplitError, raise_all
from .past_requests import EarlierRequest, PastRequest
from .sample_contents import changed_problems, changed_under_ids, comparison_of
from .samples import Data


def find_samples(requests: Sequence[PastRequest], train: Data, test: Data) -> list[EarlierRequest]:
    """Find the samples of earlier requests in today's data.

    An id that the data no longer has is left out: nothing can be trained on it. After a request that removed classes,
    every sample of the classes belongs to it, also a new one.

    Raises:
        SplitError: The ids of a request are positions, and the data has changed since. Or the model was pickled, which leaves its ids out.
    """
    fingerprint = train.fingerprint()
    problems = [
        f"an earlier request ({r.scenario}, {len(r.ids):,} samples) names its samples by position, and the training data has "
        "changed since; give the data as it was, or give every sample an id of its own."
        for r in requests
        if r.data and r.data != fingerprint
    ]
    problems = problems or changed_problems(requests, train)
    problems += [
        f"the model answered an earlier request ({r.scenario}, {r.withheld:,} samples) and was pickled since, which leaves the ids out; "
        "give them back, so that no later run learns these samples again: remember_requests(model, read_requests(FILE)), with the file "
        "that write_requests(FILE, requests_of(model)) or the run wrote."
        for r in requests
        if r.withheld and not r.classes
    ]
    if train.ids is None:
        problems += [
            f"an earlier request ({r.scenario}, {len(r.ids):,} samples) names its samples by ids such as '{r.ids[0]}', and the "
            "training data has no ids now; give the data with its ids."
            for r in requests
            if r.ids and not r.data and not all(_is_position(name, len(train)) for name in r.ids)
        ]
    raise_all(problems, SplitError)
    versions, comparison = (train.version, test.version), comparison_of(train)
    before = _FOUND.get(train)
    if before is None or before[0]() is not test or before[1] != versions or before[3] is not comparison:
        _FOUND[train] = (ref(test), versions, {}, comparison)
    known = _FOUND[train][2]
    if len(known) > 2 * len(requests) + 100:
        known.clear()
    # a request is kept with its samples, so that its `id` names no other one
    known.update({id(e.past): e for e in _find([r for r in requests if id(r) not in known], train, test)})
    return [known[id(r)] for r in requests]


# {training data: (test data, versions of both, {request: its samples}, `comparison_of`)}: a run and its audits look for the same requests
_FOUND: WeakKeyDictionary[Data, tuple[ref[Data], object, dict[int, EarlierRequest], object]] = (
    WeakKeyDictionary()
)


def _find(requests: Sequence[PastRequest], train: Data, test: Data) -> list[EarlierRequest]:
    """Find the samples of requests that fit the data."""
    positions = _positions(train, {name for r in requests if not r.data for name in r.ids})
    earlier = []
    for request in requests:
        if not request.data and (count := changed_under_ids(request, train, positions)):
            warnings.warn(
                f"{count:,} of the {len(request.ids):,} samples of an earlier request ({request.scenario}) have other contents under their "
                "ids than when it was answered. The samples that have these ids now are left out, and the forgotten contents may be "
                "elsewhere in the data: give the data as it was.",
                RuntimeWarning,
                stacklevel=5,
            )
        known = {p for name in request.ids for p in positions.get(name, ())}
        known |= {int(name) for name in request.ids if request.data}
        if request.classes:
            known.update(_of_classes(train, request.classes).tolist())
        places = np.array(sorted(known), np.int64).tobytes()
        of_test = _of_classes(test, request.classes).numpy().tobytes() if request.classes else b""
        earlier.append(EarlierRequest(request, places, of_test))
    return earlier


def _positions(data: Data, wanted: set[str]) -> dict[str, list[int]]:
    """Return {id: positions} of the wanted ids that the data has. Without ids, a position is an id."""
    positions: dict[str, list[int]] = {}
    if wanted:
        for position, name in enumerate(data.ids if data.ids is not None else map(str, range(len(data)))):
            if name in wanted:
                positions.setdefault(str(name), []).append(position)
    return positions


def _is_position(name: str, count: int) -> bool:
    return name.isascii() and name.isdigit() and int(name) < count


def _of_classes(data: Data, classes: Sequence[int]) -> Tensor:
    return torch.isin(data.labels, torch.tensor(list(classes), dtype=torch.int64)).nonzero()[:, 0]
