"""The state of a ledger as a table of its file, so that entering a row does not read all rows before it.

The rows are the truth. The table is computed from them, and `Ledger.check` compares both.
"""

from __future__ import annotations

import gc
import hashlib
import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ..errors import ExpungeError
from .deletion import Source
from .ledger_rows import START, Event, LedgerHead
from .ledger_schema import ADDED
from .limits import Limits
from .replay import Book, from_json, replay, to_json

_COLUMNS = "seq, at, kind, request, body, previous, hash"
# Names of the marks: the last row whose state is in the table, the last one whose receipt was verified, and the digest of
# the table.
STATE, VERIFIED, DIGEST = "state", "verified", "digest"
MODULUS = 2**256


class StoredBook(Book):
    """Hold the state of a ledger, of which only the entries that are asked for are read from its table."""

    def __init__(self, db: sqlite3.Connection, path: Source):
        super().__init__()
        self.db, self.path = db, path
        row = db.execute("SELECT body FROM events WHERE kind = 'limits' ORDER BY seq DESC LIMIT 1").fetchone()
        try:
            self.limits = Limits.of(json.loads(row[0])) if row else self.limits
            row = db.execute("SELECT value FROM state WHERE kind = 'count'").fetchone()
            self.last = int(row[0]) if row else 0
        except (TypeError, KeyError, ValueError) as error:
            raise ExpungeError(
                f"{path} has a row that cannot be read. `expunge ledger check` says which."
            ) from error

    def load(self, kind: str, key: str) -> Any:
        """Read an entry."""
        row = self.db.execute("SELECT value FROM state WHERE kind = ? AND key = ?", (kind, key)).fetchone()
        return None if row is None else self._read(kind, row[0])

    def load_requests(self) -> None:
        """Read all requests, and what they brought back."""
        rows = self.db.execute("SELECT kind, key, value FROM state WHERE kind IN ('request', 'returns')")
        self.entries |= {(kind, key): self._read(kind, text) for kind, key, text in rows}

    def _read(self, kind: str, text: str) -> Any:
        try:
            return from_json(kind, json.loads(text))
        except (TypeError, ValueError) as error:
            raise self._unreadable() from error

    def _unreadable(self) -> ExpungeError:
        return ExpungeError(
            f"the stored state of {self.path} cannot be read. `expunge ledger check` says what is wrong."
        )

    def save(self) -> None:
        """Write the entries that have changed."""
        rows = [(kind, key, json.dumps(to_json(kind, self.entries[kind, key]))) for kind, key in self.changed]
        rows.append(("count", "", str(self.last)))
        try:
            total = int(mark(self.db, DIGEST, checked=False).hash, 16)
        except ValueError as error:
            raise self._unreadable() from error
        for kind, key, text in rows:
            query = "SELECT value FROM state WHERE kind = ? AND key = ?"
            old = self.db.execute(query, (kind, key)).fetchone()
            total += _number(kind, key, text) - (_number(kind, key, old[0]) if old else 0)
        self.db.executemany("INSERT OR REPLACE INTO state VALUES (?, ?, ?)", rows)
        set_mark(self.db, DIGEST, LedgerHead(0, f"{total % MODULUS:064x}"))
        self.changed.clear()


def _number(kind: str, key: str, text: str) -> int:
    """Return an entry of the table as a number. The sum of all is the digest, which one changed entry changes in one step."""
    return int.from_bytes(hashlib.sha256(f"{kind}\0{key}\0{text}".encode()).digest())


def prepare(db: sqlite3.Connection) -> None:
    """Make tables and triggers that files of earlier versions lack. Needs a write transaction."""
    for statement in ADDED:
        db.execute(statement)


def mark(db: sqlite3.Connection, name: str, *, checked: bool = True) -> LedgerHead:
    """Return what a mark names, or the head of an empty ledger. With `checked`, it must be a row of this ledger."""
    nothing = LedgerHead(0, START)
    try:
        row = db.execute("SELECT count, hash FROM mark WHERE name = ?", (name,)).fetchone()
    except sqlite3.OperationalError:
        # a file of an earlier version
        return nothing
    if row is None or not checked:
        return LedgerHead(*row) if row else nothing
    there = db.execute("SELECT hash FROM events WHERE seq = ?", (row[0],)).fetchone()
    return LedgerHead(*row) if there is not None and there[0] == row[1] else nothing


def set_mark(db: sqlite3.Connection, name: str, head: LedgerHead) -> None:
    """Let a mark name a row."""
    db.execute("INSERT OR REPLACE INTO mark VALUES (?, ?, ?)", (name, head.count, head.hash))


def is_current(db: sqlite3.Connection) -> bool:
    """Return whether the table has the state after the last row."""
    row = db.execute("SELECT count, hash FROM head").fetchone()
    return row is not None and mark(db, STATE) == LedgerHead(*row)


def read_book(db: sqlite3.Connection, path: Source, *, every: bool = False) -> Book:
    """Return the state of a ledger for reading: from the table if it is current, else from all rows.

    With `every`, all requests are in memory.
    """
    if is_current(db):
        book = StoredBook(db, path)
        if every:
            book.load_requests()
        return book
    return replay(rows_after(db, 0), path)


def catch_up(db: sqlite3.Connection, path: Source) -> StoredBook:
    """Apply the rows that are not yet in the table, and return the state. Needs a write transaction."""
    prepare(db)
    reached = mark(db, STATE)
    if not reached.count:
        db.execute("DELETE FROM state")
        db.execute("DELETE FROM mark WHERE name = ?", (DIGEST,))
    book = StoredBook(db, path)
    if events := rows_after(db, reached.count):
        replay(events, path, book)
        book.save()
        set_mark(db, STATE, LedgerHead(events[-1].seq, events[-1].hash))
    return book


def rows_after(db: sqlite3.Connection, count: int) -> list[Event]:
    """Return the rows behind row `count`, in order."""
    query = f"SELECT {_COLUMNS} FROM events WHERE seq > ? ORDER BY seq"
    return [Event(*row) for row in db.execute(query, (count,))]


def stored_state(db: sqlite3.Connection) -> tuple[list[tuple[str, str, str]], str] | None:
    """Return all rows (kind, key, value) of the table and its digest, or None if the table is not current."""
    if not is_current(db):
        return None
    return db.execute("SELECT kind, key, value FROM state").fetchall(), mark(db, DIGEST, checked=False).hash


def digest_problem(rows: list[tuple[str, str, str]], digest: str) -> str:
    """Say whether the table is another one than this version has written; empty if not."""
    try:
        total = sum(_number(*row) for row in rows) % MODULUS
    except (TypeError, UnicodeEncodeError) as error:
        return f"the stored state cannot be read: {error}"
    return "" if f"{total:064x}" == digest else "the stored state was changed"


def state_problem(rows: list[tuple[str, str, str]], book: Book) -> str:
    """Say where the table differs from the state that was computed from all rows; empty if nowhere."""
    kept = {(kind, key): text for kind, key, text in rows}
    if (count := kept.pop(("count", ""), None)) != str(book.last):
        return f"the stored state has {count} requests, and the rows have {book.last}"
    for place in kept.keys() | book.entries.keys():
        if (
            place not in kept
            or place not in book.entries
            or not _is_same(place[0], kept[place], book.entries[place])
        ):
            return f"the stored state of {' '.join(place)} is not that of the rows"
    return ""


def _is_same(kind: str, text: str, value: Any) -> bool:
    """Whether the text of an entry is that of a value."""
    if kind in ("name", "returns"):
        # a list of numbers, which Python writes as JSON does
        return text == str(value)
    try:
        return bool(json.loads(text) == to_json(kind, value))
    except ValueError:
        return False


@contextmanager
def many_objects() -> Iterator[None]:
    """Pause the search for unused cycles: it visits every object again and again while many are made."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
