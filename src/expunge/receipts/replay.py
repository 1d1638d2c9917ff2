"""The state of a ledger, computed from its rows."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import fields
from datetime import date
from typing import Any

from ..errors import ExpungeError
from .deletion import CLOSED, Request, Source
from .drift import Drift
from .ledger_rows import Event
from .limits import DEFAULT_LIMITS, Limits

# What is computed for a reader and not kept.
_COMPUTED = ("limits", "brought_back", "reopened", "unknown_returns")


class Book:
    """Hold the state of a ledger as entries {(kind, key): value}. A subclass loads entries that are kept in a file.

    The kinds are "request" (number: state of a request), "name" (receipt id, hash of a run's record, or tag of one request of
    a run: numbers of the requests that it answered), "document" (hash of a record whose results on earlier requests are
    entered), "mention" (such a name: what the latest audit says of it) and "returns" (number of a request: requests that
    came back in its audit).
    """

    def __init__(self) -> None:
        self.entries: dict[tuple[str, str], Any] = {}
        self.changed: set[tuple[str, str]] = set()
        self.limits: Limits = DEFAULT_LIMITS
        self.last = 0

    # ---- entries

    def load(self, kind: str, key: str) -> Any:
        """Return an entry that is not in memory, or None."""
        return None

    def get(self, kind: str, key: object) -> Any:
        """Return an entry, or None."""
        place = (kind, str(key))
        if place not in self.entries and (value := self.load(*place)) is not None:
            self.entries[place] = value
        return self.entries.get(place)

    def put(self, kind: str, key: object, value: Any) -> None:
        """Set an entry."""
        place = (kind, str(key))
        self.entries[place] = value
        self.changed.add(place)

    # ---- what the ledger asks

    def known(self, number: int) -> Request:
        """Return the current state of a request. Raises `ExpungeError` if there is none with this number."""
        if (request := self.request(number)) is None:
            raise ExpungeError(f"there is no request {number}. `expunge ledger list` shows all requests.")
        return request

    def request(self, number: int) -> Request | None:
        """Return the current state of a request, or None."""
        request: Request | None = self.get("request", number)
        if request is not None:
            request.limits = self.limits
            returns = {n: self.get("request", n) for n in self.get("returns", number) or () if n != number}
            request.brought_back = tuple(
                n for n, r in returns.items() if r is not None and r.status not in CLOSED
            )
        return request

    def requests(self) -> Iterator[Request]:
        """Yield the current state of every request in memory, in the order of entry."""
        for number in sorted(int(key) for kind, key in self.entries if kind == "request"):
            request = self.request(number)
            assert request is not None
            yield request

    def answered_by(self, name: str) -> list[int]:
        """Return the numbers of the requests that a receipt or a run answered."""
        return list(self.get("name", name) or ()) if name else []

    def concerned(self, entry: dict[str, Any]) -> list[int]:
        """Return the numbers of the requests that an entry of an audit means.

        They are in its "of". A row of an earlier version lacks it, and means all that the receipt or the run answered.
        """
        if "of" in entry:
            return [number for number in entry["of"] if self.get("request", number) is not None]
        names = {name for name in (entry.get("receipt"), entry.get("record")) if name}
        return sorted({number for name in names for number in self.answered_by(name)})

    def mention(self, names: Iterable[str]) -> dict[str, Any] | None:
        """Return what the latest audit says of a receipt or a run, or None."""
        found = [m for m in (self.get("mention", name) for name in names) if m is not None]
        return max(found, key=lambda m: m["seq"]) if found else None

    # ---- rows

    def apply(self, event: Event) -> None:
        """Apply one row."""
        body, number = json.loads(event.body), event.request
        if event.kind == "request" and number is not None:
            self.put("request", number, _checked(Request(number, **body)))
            self.last = max(self.last, number)
        elif event.kind == "attach" and number is not None and self.get("request", number) is not None:
            self._attach(event.seq, number, body)
        elif event.kind == "limits":
            self.limits = Limits.of(body)

    def _attach(self, seq: int, number: int, body: dict[str, Any]) -> None:
        """Apply a row of the kind "attach"."""
        request: Request = self.get("request", number)
        before = request.answers
        if body.get("clears_drift"):
            # what audits said of an earlier answer says nothing of this one
            request.drift = None
        request.apply(body)
        self.put("request", number, _checked(request))
        new = request.answers - before
        for name in [*new, *body.get("tags", ())]:
            numbers = self.get("name", name) or []
            if number not in numbers:
                self.put("name", name, sorted([*numbers, number]))
        if mention := self.mention(body.get("tags") or new):
            # an audit that was attached before the run says something of it
            request.drift = Drift.of(mention, mention["by"])
        if "reopened" in body:
            by = body["reopened"]["by"]
            self.put("returns", by, sorted({*(self.get("returns", by) or ()), number}))
        for audit in body.get("later", ()):
            self.put("document", audit["document"], True)
            for entry in audit["entries"]:
                self._mention(seq, number, entry)

    def _mention(self, seq: int, by: int, entry: dict[str, Any]) -> None:
        """Enter what an audit that was attached to request `by` says of an earlier run.

        An audit that could not score its samples does not undo what an earlier one found.
        """
        scored = entry.get("UA") is not None
        names = {entry.get("receipt"), entry.get("record")} if entry.get("alone", True) else set()
        for name in {*names, *entry.get("tags", ())} - {None, ""}:
            kept = self.get("mention", name)
            # a receipt may have answered two requests, of which one came back
            if kept is None or (scored and kept["seq"] != seq) or not kept["came_back"]:
                self.put("mention", name, {**entry, "by": by, "seq": seq})
        for number in self.concerned(entry):
            earlier: Request = self.get("request", number)
            if scored or earlier.drift is None or not earlier.drift.came_back:
                earlier.drift = Drift.of(entry, by)
            self.put("request", number, earlier)


def replay(events: Iterable[Event], path: Source, book: Book | None = None) -> Book:
    """Compute the state of a ledger from its rows.

    Args:
        events: The rows in order.
        path: The file, for messages.
        book: The state before these rows. Default: that of an empty ledger.

    Raises:
        ExpungeError: A row cannot be read.
    """
    book = Book() if book is None else book
    try:
        for event in events:
            book.apply(event)
    except (AttributeError, TypeError, KeyError, ValueError, RecursionError) as error:
        raise ExpungeError(
            f"{path} has a row that cannot be read. `expunge ledger check` says which."
        ) from error
    return book


# ---- entries as JSON

_DEFAULTS = dict(vars(Request(0, "", "", "")))
_KEPT = tuple(f.name for f in fields(Request) if f.name not in _COMPUTED)
_TYPES = tuple((name, type(_DEFAULTS[name])) for name in _KEPT if name != "drift")
_NEEDED = ("number", "subject", "received", "due")


def to_json(kind: str, value: Any) -> Any:
    """Return an entry as JSON holds it."""
    if kind != "request":
        return value
    kept = {}
    for name in _KEPT:
        item = getattr(value, name)
        if name in _NEEDED or item != _DEFAULTS[name]:
            kept[name] = item
    for name in ("answers", "undone"):
        if name in kept:
            kept[name] = sorted(kept[name])
    if "drift" in kept:
        kept["drift"] = dict(vars(kept["drift"]))
    return kept


def from_json(kind: str, value: Any) -> Any:
    """Return an entry that `to_json` returned."""
    if kind != "request":
        return value
    for name in ("answers", "undone"):
        if name in value:
            value[name] = frozenset(value[name])
    if "drift" in value:
        value["drift"] = Drift(**value["drift"])
    return _checked(Request(**value))


def _checked(request: Request) -> Request:
    """Return a request whose values have the types that commands rely on. Raises `ValueError` or `TypeError`."""
    date.fromisoformat(request.due)
    values = vars(request)
    if any(type(values[name]) is not kind for name, kind in _TYPES):
        raise TypeError(f"request {request.number} has values of wrong types")
    return request
