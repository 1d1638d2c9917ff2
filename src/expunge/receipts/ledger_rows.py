"""The rows of a ledger and its head: each row carries the hash of the row before it."""

from __future__ import annotations

import hashlib
import json
import sqlite3
import unicodedata
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Self

from ..errors import ExpungeError
from .canonical import LARGEST, canonical, decimals

_ROW = b"expunge-ledger-row/v1\0"
# The first row has no row before it, so it carries this in place of a hash.
START = "0" * 64


@dataclass(frozen=True)
class LedgerHead:
    """Name the last row of a ledger.

    Args:
        count: Number of rows.
        hash: Hash of the last row, 64 hex digits.

    Example:
        >>> noted = ledger.head()
        >>> str(noted)
        '5:92fc…'
        >>> ledger.check(noted)
    """

    count: int
    hash: str

    def __str__(self) -> str:
        return f"{self.count}:{self.hash}"

    @classmethod
    def of(cls, text: str) -> Self:
        """Read a ledger head as `expunge ledger check` prints it: `12:ab34…`.

        Raises:
            ExpungeError: The text has another form.
        """
        count, _, digest = text.strip().partition(":")
        if not count.isdecimal() or len(digest) != 64:
            raise ExpungeError(
                f"{text!r} is not a ledger head; a head is count:hash with 64 hex digits. "
                "Copy it from the output of `expunge ledger check`."
            )
        return cls(int(count), digest.lower())


@dataclass(frozen=True)
class Event:
    """Hold one row of a ledger.

    Args:
        seq: Number of the row, from 1.
        at: Time of writing, UTC in ISO form.
        kind: "ledger" (the first row), "request" or "attach".
        request: Number of the deletion request, None for the first row.
        body: Content as canonical JSON.
        previous: Hash of the row before, 64 hex digits.
        hash: Hash of this row, 64 hex digits.
    """

    seq: int
    at: str
    kind: str
    request: int | None
    body: str
    previous: str
    hash: str

    @classmethod
    def after(cls, head: LedgerHead, at: str, kind: str, request: int | None, body: str) -> Self:
        """Make the row that follows `head`."""
        row = cls(head.count + 1, at, kind, request, body, head.hash, "")
        return cls(row.seq, at, kind, request, body, head.hash, row.computed())

    def computed(self) -> str:
        """Compute the SHA-256 of the row without its `hash`.

        Raises:
            ExpungeError: A value of the row has no canonical form.
        """
        entries = [self.seq, self.at, self.kind, self.request, self.body, self.previous]
        # the fast way for what the ledger writes; `canonical` says what is wrong with anything else
        encoded = _encode(entries).encode() if self._is_plain() else canonical(entries)
        return hashlib.sha256(_ROW + encoded).hexdigest()

    def _is_plain(self) -> bool:
        """Whether the canonical form of the row is what `json` writes."""
        return (
            type(self.body) is type(self.at) is type(self.kind) is type(self.previous) is str
            and (self.body.isascii() or unicodedata.is_normalized("NFC", self.body))
            and self.at.isascii()
            and self.kind.isascii()
            and self.previous.isascii()
            and type(self.seq) is int
            and self.seq <= LARGEST
            and (self.request is None or (type(self.request) is int and abs(self.request) <= LARGEST))
        )


_encode = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode


def read_head(db: sqlite3.Connection) -> LedgerHead:
    """Return the stored head."""
    row = db.execute("SELECT count, hash FROM head").fetchone()
    return LedgerHead(*row) if row else LedgerHead(0, "")


def insert_row(db: sqlite3.Connection, kind: str, request: int | None, body: dict[str, Any]) -> None:
    """Insert the next row of the chain within the transaction of the caller."""
    last = db.execute("SELECT count, hash FROM head").fetchone()
    head = LedgerHead(*last) if last else LedgerHead(0, START)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    event = Event.after(head, now, kind, request, canonical(decimals(body)).decode())
    db.execute("INSERT INTO events VALUES (?, ?, ?, ?, ?, ?, ?)", tuple(event.__dict__.values()))
    db.execute("INSERT OR REPLACE INTO head VALUES (1, ?, ?)", (event.seq, event.hash))
