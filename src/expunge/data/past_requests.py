"""Requests that a model has answered, and which samples of today's data they concern.

`unlearn` remembers each request on the model it returns. A later run takes their samples out of its retain set, so
that it never trains on them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeVar
from weakref import WeakKeyDictionary, ref

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import SplitError, raise_all
from .sample_contents import changed_problems
from .samples import Data

Goal = Literal["untrain", "unlearn"]
Model = TypeVar("Model", bound=nn.Module)

# name of the attribute of a model that holds its requests
_ATTRIBUTE = "expunge_requests"


@dataclass(frozen=True)
class PastRequest:
    """Hold one request that a model has answered.

    Args:
        request: Hash (hex) of the split as it was drawn for the request. It identifies the request.
        scenario: How the forget set was drawn: "class", "random", "ids", ...
        goal: "untrain" or "unlearn".
        ids: Ids of the forgotten samples. They are positions in the data if the data has no ids.
        data: Fingerprint of the data if `ids` are positions, else empty.
        classes: Numbers of the forgotten classes, if the ability to recognise them was removed.
        method: Name of the method.
        description: How the split was drawn, for messages (`Split.to_dict`).
        scores: UA and MIA (percent) of the audit that followed the run; empty without an audit.
        record: Hash of the run's record, or empty.
        receipt: Id of the receipt, or empty.
        commitment: Merkle root of the receipt, or empty.
        contents: Hashes of the contents of the samples if `ids` are positions (`contents_of`); empty if they cannot be compared.
    """

    request: str
    scenario: str
    goal: Goal
    ids: tuple[str, ...]
    data: str = ""
    classes: tuple[int, ...] = ()
    method: str = ""
    description: dict[str, Any] = field(default_factory=dict)
    scores: dict[str, float] = field(default_factory=dict)
    record: str = ""
    receipt: str = ""
    commitment: str = ""
    contents: tuple[str, ...] = ()

    def __repr__(self) -> str:
        classes = f" {list(self.classes)}" if self.classes else ""
        return f"PastRequest({self.scenario}{classes}, {len(self.ids):,} samples, goal {self.goal}, {self.method})"

    def __deepcopy__(self, memo: dict[int, Any]) -> PastRequest:
        """Return the request itself, as it never changes: a copy of a model with many requests takes no time for them."""
        return self

    def public(self) -> dict[str, Any]:
        """Return what a checkpoint that leaves the house may say of the request: no ids, no names of groups."""
        private = ("ids", "data", "description", "scores", "contents")
        shown = {k: v for k, v in vars(self).items() if k not in private}
        return {**shown, "classes": list(self.classes), "count": len(self.ids)}


class _Requests(tuple[PastRequest, ...]):
    """The requests of a model. None of them ever changes, so a copy of the model takes no time for them."""

    __slots__ = ()

    def __deepcopy__(self, memo: dict[int, Any]) -> _Requests:
        return self


@dataclass(frozen=True, eq=False)
class EarlierRequest:
    """Hold an earlier request with the places of its samples in the data of a split, as bytes: many tensors fragment the memory.

    Args:
        past: The request.
        places: Positions (n,) of its forget samples that the training data still has, int64.
        test_places: Positions (m,) of the test samples of the classes it removed, int64.
    """

    past: PastRequest
    places: bytes
    test_places: bytes

    @property
    def is_scored_by_test(self) -> bool:
        """Whether only test samples of the removed classes are left to score."""
        return not self.places and bool(self.test_places)

    @property
    def count(self) -> int:
        """Number of its samples in the data."""
        return len(self.places) // 8

    @property
    def test_count(self) -> int:
        """Number of the test samples of the classes that it removed."""
        return len(self.test_places) // 8

    @property
    def index(self) -> Tensor:
        """Positions (n,) of its forget samples that the training data still has."""
        return joined([self.places])


def joined(places: Iterable[bytes]) -> Tensor:
    """Return the positions (n,) of several requests, one after the other."""
    return torch.from_numpy(np.frombuffer(b"".join(places), np.int64).copy())


def requests_of(model: nn.Module) -> tuple[PastRequest, ...]:
    """Return the requests that a model has answered, the first one first.

    `unlearn` and `execute` write them on the model they return. `copy.deepcopy` keeps them. A model that contains the
    returned one as a submodule has answered them too. A state dict does not hold them: checkpoints of the command line keep
    them in their metadata.

    Example:
        >>> unlearned = unlearn(model, split, "salun", task)  # doctest: +SKIP
        >>> requests_of(unlearned)  # doctest: +SKIP
        (PastRequest(class [3], 178 samples, goal unlearn, salun),)
    """
    # the model may be part of another one: a wrapper of torch, an ensemble, the user's own module
    parts = model.modules() if isinstance(model, nn.Module) else [model]
    # the parts of one model share their requests, which may be thousands
    listed = {id(kept): kept for part in parts if (kept := vars(part).get(_ATTRIBUTE))}
    if len(listed) == 1 and isinstance(kept := next(iter(listed.values())), _Requests):
        return kept
    return _different(past for kept in listed.values() for past in kept)


def _different(requests: Iterable[PastRequest]) -> _Requests:
    """Return requests without those that are there a second time."""
    found: dict[str, PastRequest] = {}
    for past in requests:
        found.setdefault(past.request, past)
    return _Requests(found.values())


def remember_requests(model: Model, requests: Iterable[PastRequest]) -> Model:
    """Write on a model which requests it has answered, and return the model.

    Args:
        model: The model, for example just loaded from a file.
        requests: The requests, the first one first. They replace what was written on the model, but not on its submodules.

    Every module of the model gets them, so that a part that is used elsewhere (`model[:-1]`) knows them too.
    """
    before, new = vars(model).get(_ATTRIBUTE), _different(requests)
    for part in model.modules() if isinstance(model, nn.Module) else [model]:
        own = vars(part).get(_ATTRIBUTE)
        if part is model or own is None or own == before:
            object.__setattr__(part, _ATTRIBUTE, new)
    return model


def remember_scores(model: nn.Module, scores: dict[str, Any]) -> None:
    """Write the UA and MIA of a model's audit on its last request, with which later audits compare."""
    if requests := requests_of(model):
        kept = {name: scores[name] for name in ("UA", "MIA") if isinstance(scores.get(name), int | float)}
        remember_requests(model, [*requests[:-1], replace(requests[-1], scores=kept)])


def find_samples(requests: Sequence[PastRequest], train: Data, test: Data) -> list[EarlierRequest]:
    """Find the samples of earlier requests in today's data.

    An id that the data no longer has is left out: nothing can be trained on it. After a request that removed classes,
    every sample of the classes belongs to it, also a new one.

    Raises:
        SplitError: The ids of a request are positions, and the data has changed since.
    """
    fingerprint = train.fingerprint()
    problems = [
        f"an earlier request ({r.scenario}, {len(r.ids):,} samples) names its samples by position, and the training data has "
        "changed since; give the data as it was, or give every sample an id of its own."
        for r in requests
        if r.data and r.data != fingerprint
    ]
    problems = problems or changed_problems(requests, train)
    if train.ids is None:
        problems += [
            f"an earlier request ({r.scenario}, {len(r.ids):,} samples) names its samples by ids such as '{r.ids[0]}', and the "
            "training data has no ids now; give the data with its ids."
            for r in requests
            if r.ids and not r.data and not all(_is_position(name, len(train)) for name in r.ids)
        ]
    raise_all(problems, SplitError)
    versions = (train.version, test.version)
    if train not in _FOUND or _FOUND[train][0]() is not test or _FOUND[train][1] != versions:
        _FOUND[train] = (ref(test), versions, {})
    known = _FOUND[train][2]
    if len(known) > 2 * len(requests) + 100:
        known.clear()
    # a request is kept with its samples, so that its `id` names no other one
    known.update({id(e.past): e for e in _find([r for r in requests if id(r) not in known], train, test)})
    return [known[id(r)] for r in requests]


# {training data: (test data, versions of both, {request: its samples})}: a run and its audits look for the same requests
_FOUND: WeakKeyDictionary[Data, tuple[ref[Data], object, dict[int, EarlierRequest]]] = WeakKeyDictionary()


def _find(requests: Sequence[PastRequest], train: Data, test: Data) -> list[EarlierRequest]:
    """Find the samples of requests that fit the data."""
    positions = _positions(train, {name for r in requests if not r.data for name in r.ids})
    earlier = []
    for request in requests:
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
