"""The state of a ledger, computed from its rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ..errors import ExpungeError
from .canonical import parse
from .chain import Event
from .deletion import CLOSED, Request, Source
from .limits import Limits
from .reaudit import Drift


@dataclass
class Book:
    """Hold the state of a ledger.

    Args:
        requests: {number: request}.
        limits: The limits of the ledger.
        documents: Hashes of the records whose results on earlier requests are entered.
        answered: {receipt id or hash of a run's record: numbers of the requests that it answered}.
        returns: {request: requests that came back in its audit}.
    """

    requests: dict[int, Request] = field(default_factory=dict)
    limits: Limits = field(default_factory=Limits)
    documents: set[str] = field(default_factory=set)
    answered: dict[str, set[int]] = field(default_factory=dict)
    returns: dict[int, set[int]] = field(default_factory=dict)

    def concerned(self, entry: dict[str, Any]) -> list[Request]:
        """Return the requests that were answered by the receipt or the run that an entry of an audit names."""
        names = {name for name in (entry.get("receipt"), entry.get("record")) if name}
        numbers = {number for name in names for number in self.answered.get(name, ())}
        return [self.requests[number] for number in sorted(numbers)]

    def attach(self, number: int, body: dict[str, Any]) -> None:
        """Apply a row of the kind "attach"."""
        request = self.requests[number]
        request.apply(body)
        for name in request.answers:
            self.answered.setdefault(name, set()).add(number)
        if "reopened" in body:
            self.returns.setdefault(body["reopened"]["by"], set()).add(number)
        for audit in body.get("later", ()):
            self.documents.add(audit["document"])
            for entry in audit["entries"]:
                for earlier in self.concerned(entry):
                    earlier.drift = Drift.of(entry, number)


def replay(events: Sequence[Event], path: Source) -> Book:
    """Compute the state of a ledger from its rows.

    Args:
        events: The rows in order.
        path: The file, for messages.

    Raises:
        ExpungeError: A row cannot be read.
    """
    book = Book()
    try:
        for event in events:
            body = parse(event.body.encode())
            if event.kind == "request" and event.request is not None:
                book.requests[event.request] = Request(event.request, **body)
            elif event.kind == "attach" and event.request in book.requests:
                book.attach(event.request, body)
            elif event.kind == "limits":
                book.limits = Limits.of(body)
    except (AttributeError, TypeError, KeyError, ValueError) as error:
        raise ExpungeError(
            f"{path} has a row that cannot be read. `expunge ledger check` says which."
        ) from error
    for number, request in book.requests.items():
        request.limits = book.limits
        back = book.returns.get(number, set()) - {number}
        request.brought_back = tuple(sorted(n for n in back if book.requests[n].status not in CLOSED))
    return book
