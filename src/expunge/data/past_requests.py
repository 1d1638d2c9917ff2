"""Requests that a model has answered, and which samples of today's data they concern.

`unlearn` remembers each request on the model it returns. A later run takes their samples out of its retain set, so
that it never trains on them.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

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
        contents: Hashes of the contents of the samples (`contents_of`); empty if they cannot be compared, and for classes.
        not_shown: Whether the scores of its own audit do not show that it is forgotten. None if that is not known.
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
    not_shown: bool | None = None

    def __repr__(self) -> str:
        classes = f" {list(self.classes)}" if self.classes else ""
        return f"PastRequest({self.scenario}{classes}, {len(self.ids):,} samples, goal {self.goal}, {self.method})"

    def __deepcopy__(self, memo: dict[int, Any]) -> PastRequest:
        """Return the request itself, as it never changes: a copy of a model with many requests takes no time for them."""
        return self

    def __copy__(self) -> PastRequest:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle what a model that leaves the house may say: a file that `torch.save(model, ...)` wrote names no samples."""
        shown = (self.scenario, self.goal, self.classes, self.method, self.receipt, self.commitment)
        return _withheld, (secrets.token_hex(32), len(self.ids) or self.withheld, *shown)

    @property
    def withheld(self) -> int:
        """Number of its samples whose ids a pickled model does not say. 0 for a request with its ids."""
        return int(self.description.get("withheld", 0))

    def public(self) -> dict[str, Any]:
        """Return what a checkpoint that leaves the house may say of the request: no ids, no names of groups."""
        private = ("ids", "data", "description", "scores", "contents", "not_shown")
        shown = {k: v for k, v in vars(self).items() if k not in private}
        return {**shown, "classes": list(self.classes), "count": len(self.ids)}


def _withheld(
    token: str,
    count: int,
    scenario: str,
    goal: Goal,
    classes: tuple[int, ...],
    method: str,
    receipt: str,
    root: str,
) -> PastRequest:
    """Return a request of a pickled model. Its ids are not with it, and a random text stands for its hash."""
    told = {"withheld": count}
    return PastRequest(token, scenario, goal, (), "", classes, method, told, receipt=receipt, commitment=root)


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


class _Drawn(Protocol):
    """What is read of a split: the requests before it, and itself as a request."""

    @property
    def earlier(self) -> Sequence[EarlierRequest]: ...
    def as_request(self, method: str, *, with_contents: bool = False) -> PastRequest: ...


def answered_by(split: _Drawn, method: str, *, with_contents: bool = False) -> list[PastRequest]:
    """Return the requests that a model has answered after a run on a split: the earlier ones, and that of the split.

    Args:
        split: The split.
        method: Name of the method.
        with_contents: See `Split.as_request`.
    """
    return [*(e.past for e in split.earlier), split.as_request(method, with_contents=with_contents)]


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
