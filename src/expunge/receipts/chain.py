"""Rows that each carry the hash of the one before, and the check that none was changed, added or lost."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from ..errors import ExpungeError
from .canonical import canonical, file_form, parse
from .verify import Check, verify

_ROW = b"expunge-ledger-row/v1\0"
START = "0" * 64  # what the first row names as the one before


@dataclass(frozen=True)
class Head:
    """The end of a chain: how many rows it has and the hash of the last (64 hex digits)."""

    count: int
    hash: str

    def __str__(self) -> str:
        return f"{self.count}:{self.hash}"

    @classmethod
    def of(cls, text: str) -> Self:
        """A head as it was printed, `12:ab34...`. Raises `ExpungeError` for other text."""
        count, _, digest = text.strip().partition(":")
        if not count.isdecimal() or len(digest) != 64:
            raise ExpungeError(
                f"{text!r} is not a head; write it as `expunge ledger check` prints it, count:hash."
            )
        return cls(int(count), digest.lower())


@dataclass(frozen=True)
class Event:
    """One row. `at` is UTC (ISO), `body` canonical JSON, `previous` and `hash` 64 hex digits."""

    seq: int
    at: str
    kind: str
    request: int | None
    body: str
    previous: str
    hash: str

    @classmethod
    def after(cls, head: Head, at: str, kind: str, request: int | None, body: str) -> Self:
        """The row that follows `head`."""
        row = cls(head.count + 1, at, kind, request, body, head.hash, "")
        return cls(row.seq, at, kind, request, body, head.hash, row.computed())

    def computed(self) -> str:
        """SHA-256 of all that is in the row but its hash. Raises `ExpungeError` where it cannot be."""
        entries = [self.seq, self.at, self.kind, self.request, self.body, self.previous]
        return hashlib.sha256(_ROW + canonical(entries)).hexdigest()


def check_events(events: Sequence[Event], head: Head, noted: Head | None = None) -> list[Check]:
    """Whether the rows form one unbroken chain that ends at `head` and passed through `noted`, a head kept
    elsewhere, and whether every receipt in them still holds."""
    found = Head(events[-1].seq, events[-1].hash) if events else Head(0, "")
    checks = [
        _unbroken(events),
        Check.of(
            "head",
            bool(events) and found == head,
            f"the chain ends at {head}",
            f"the last row is {found}, but the head says {head}: rows were lost or added",
        ),
    ]
    if noted is not None:
        there = any((event.seq, event.hash) == (noted.count, noted.hash) for event in events)
        checks.append(
            Check.of(
                "noted head",
                there,
                f"row {noted.count} is the one that was noted",
                f"row {noted.count} is not the one that was noted: this is another history",
            )
        )
    checks.append(_receipts(events))
    return checks


def _unbroken(events: Sequence[Event]) -> Check:
    previous = START
    for place, event in enumerate(events, 1):
        try:
            good = event.hash == event.computed()
        except ExpungeError:
            good = False
        if event.seq != place:
            return Check("chain", False, f"row {place} is missing")
        if not good:
            return Check("chain", False, f"row {place} was changed")
        if event.previous != previous:
            return Check(
                "chain", False, f"row {place} does not follow the row before it: one of them was replaced"
            )
        if (event.kind == "ledger") != (place == 1):
            return Check(
                "chain", False, f"row {place} is of kind {event.kind!r}: the start of the ledger is elsewhere"
            )
        previous = event.hash
    return Check.of(
        "chain", bool(events), f"{len(events)} rows, each follows from the one before", "there are no rows"
    )


def _receipts(events: Sequence[Event]) -> Check:
    """Whether each receipt that is kept in a row holds by itself."""
    number, broken = 0, []  # broken: the row and the first check that failed
    for event in events:
        try:
            body = parse(event.body.encode())
            if event.kind == "attach" and "receipt" in body:
                number += 1
                failed = [check.words for check in verify(file_form(body["receipt"])) if not check.ok]
                broken += [f"row {event.seq}: {failed[0]}"] if failed else []
        except (ExpungeError, AttributeError, TypeError):
            broken.append(f"row {event.seq} cannot be read")
    return Check("receipts", not broken, f"{number} receipts, all whole" if not broken else "; ".join(broken))
