"""Copies of samples of earlier requests, answered or waiting: contents that are in the data under other ids."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from ..data.copies import SHOWN_IDS, CopyHandling
from ..data.past_requests import PastRequest
from ..data.samples import Data, Samples
from ..data.split import Split
from ..data.validation_set import validation_without
from ..data.waiting import WaitingRequest
from ..errors import SplitError
from ..summaries import short
from .fingerprints import COPIED, Fingerprints


@dataclass(frozen=True, eq=False)
class ReturnedCopies:
    """Hold the training samples whose contents an earlier request removed under another id.

    Args:
        copies: The samples, which may have another label.
        requests: Numbers of the requests that removed the contents; empty where the requests are of an earlier project.
        handling: What the project does about copies. With "report" and "ignore" they stay in their sets.
        wait: Whether the requests still wait for their run.
        new: {name of a class that a request removed: number of its samples that came into the data later}. They leave
            whatever `handling` says, as they are samples of the class.
    """

    copies: Samples
    requests: tuple[int, ...]
    handling: CopyHandling
    wait: bool = False
    new: Mapping[str, int] = field(default_factory=dict)

    @property
    def sentences(self) -> list[str]:
        """What is done about the copies and about new samples of removed classes, for the user; empty without any."""
        ids = self.copies.take(torch.arange(len(self.copies))[:SHOWN_IDS]).ids
        more = f" and {len(self.copies) - SHOWN_IDS:,} more" if len(self.copies) > SHOWN_IDS else ""
        return self._sentences(f" (id{'s' * (len(self.copies) > 1)} {short(', '.join(ids), 60)}{more})")

    @property
    def recorded(self) -> list[str]:
        """The same sentences without ids, for a record."""
        return self._sentences("")

    def _sentences(self, shown: str) -> list[str]:
        return [*self._of_copies(shown), *(_new_sentence(name, count) for name, count in self.new.items())]

    def _of_copies(self, shown: str) -> list[str]:
        if not len(self.copies):
            return []
        count, one = len(self.copies), len(self.copies) == 1
        numbers = [str(n) for n in self.requests]
        by = f"request{'s' * (len(numbers) > 1)} {', '.join(numbers)}" if numbers else "earlier requests"
        which = f"of {by}, which waits" if self.wait else f"that {by} removed"
        start = (
            f"{count:,} training sample{' is a copy' if one else 's are copies'} of samples {which}{shown}"
        )
        if self.handling == "include":
            until = " until its run" if self.wait else ""
            return [
                f"{start}: {'it leaves' if one else 'they leave'} the retain set and the validation set{until}."
            ]
        stay = "it stays in its set" if one else "they stay in their sets"
        return [
            f"{start}: {stay}, as copies is {self.handling!r} in expunge.toml, and the model learns from "
            f'{"it" if one else "them"}{"" if self.wait else " again"}; write copies = "include", or ask for {"it" if one else "them"} too.'
        ]

    def leave(self, split: Split) -> Split:
        """Return a split without the copies in its retain, validation and withheld set. Its forget set stays as it is.

        Raises:
            SplitError: No sample would be retained.
        """
        if self.handling != "include" or not len(self.copies):
            return split
        copied = self.copies.index
        retain, withheld = (s.take(~torch.isin(s.index, copied)) for s in (split.retain, split.withheld))
        if not len(retain):
            raise SplitError(
                "all samples of the retain set are copies of samples that earlier requests removed; add other samples."
            )
        trained = torch.cat([split.retain.index, split.withheld.index])
        removed = torch.cat([split.removed, trained[torch.isin(trained, copied)]]).unique()
        validation = validation_without(split, copied)
        return replace(split, retain=retain, validation=validation, withheld=withheld, removed=removed)

    def to_dict(self) -> dict[str, Any]:
        """Return number and requests, for a record. It holds no ids."""
        return {
            "count": len(self.copies),
            "left_out": self.handling == "include",
            "requests": list(self.requests),
            **({"new_of_classes": dict(self.new)} if self.new else {}),
        }


def _new_sentence(name: str, count: int) -> str:
    its = "1 new training sample has" if count == 1 else f"{count:,} new training samples have"
    they = "it leaves" if count == 1 else "they leave"
    return f"{its} the label {name}, a class that a request removed: {they} the retain set and the validation set."


def find_returned(
    known: Fingerprints,
    current: Fingerprints,
    train: Data,
    requests: Sequence[PastRequest],
    numbers: Mapping[str, int],
    handling: CopyHandling | None,
) -> ReturnedCopies:
    """Find the contents of earlier requests' samples in today's data. They are known also where the samples are gone.

    Args:
        known: Fingerprints of all samples that the project has known, with the key of `current`.
        current: Those of today's data.
        train: Today's training data.
        requests: The requests that the model has answered.
        numbers: {hash of a request: its number in the project}.
        handling: `copies` of the project. By default copies leave the sets.
    """
    ids = {name for r in requests for name in r.ids}
    own = current.which(ids)
    # every sample of a removed class stays out of training anyway, also a new one
    removed = sorted({k for r in requests for k in r.classes})
    members = np.isin(train.labels.numpy(), removed) if removed else np.zeros_like(own)
    # without ids of a request, nobody knows which samples are new
    known_classes = sorted({k for r in requests if r.ids for k in r.classes})
    counts = {k: int((train.labels.numpy()[members & ~own] == k).sum()) for k in known_classes}
    new = {_class_name(train, k): count for k, count in counts.items() if count}
    own |= members
    copied = current.train[:, COPIED:]
    found = _sharing(copied, known.copied_of(ids)) & ~own
    concerned = []
    if found.any():
        concerned = [r for r in requests if (_sharing(copied, known.copied_of(r.ids)) & found).any()]
    return ReturnedCopies(
        Samples(train, torch.from_numpy(np.flatnonzero(found))),
        tuple(sorted({numbers[r.request] for r in concerned if r.request in numbers})),
        handling or "include",
        new=new,
    )


def _class_name(train: Data, number: int) -> str:
    return train.classes[number] if train.classes else str(number)


def with_copies(
    known: Fingerprints,
    current: Fingerprints,
    train: Data,
    waiting: Sequence[WaitingRequest],
    promised: Mapping[int, Sequence[str]],
    handling: CopyHandling | None,
) -> list[WaitingRequest]:
    """Return waiting requests with the copies of their samples, which may have come into the data later.

    Args:
        known: Fingerprints of all samples that the project has known, with the key of `current`.
        current: Those of today's data.
        train: Today's training data.
        waiting: The requests, each with its own samples in today's data.
        promised: {number of a request: ids of the samples that it had when it came}. The data may have lost some.
        handling: `copies` of the project. By default copies leave the sets until the run of their request.
    """
    copied, own = current.train[:, COPIED:], np.zeros(len(train), bool)
    for request in waiting:
        own[request.index.numpy()] = True
    contents = [np.union1d(known.copied_of(promised[r.number]), copied[r.index.numpy()]) for r in waiting]
    if not waiting or not (_sharing(copied, np.concatenate(contents)) & ~own).any():
        return list(waiting)
    found = []
    for request, wanted in zip(waiting, contents, strict=True):
        at = torch.from_numpy(np.flatnonzero(_sharing(copied, wanted) & ~own))
        returned = ReturnedCopies(Samples(train, at), (request.number,), handling or "include", wait=True)
        leaving = at if returned.handling == "include" else at[:0]
        index = torch.cat([request.index, leaving]).sort().values
        found.append(
            replace(
                request, index=index, note=" ".join(returned.sentences), recorded=" ".join(returned.recorded)
            )
        )
    return found


def _sharing(copied: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Return which samples share a hash with the wanted ones, or with such a sample, bool (N,).

    Of two texts with equal words, only one may share its tokens with a third. So the search goes on from what it finds.
    """
    found: np.ndarray = np.zeros(len(copied), bool)
    while True:
        before = int(found.sum())
        found = np.asarray(np.isin(copied, wanted[wanted != 0]).any(1))
        if copied.shape[1] == 1 or int(found.sum()) == before:
            return found
        wanted = np.union1d(wanted, copied[found])
