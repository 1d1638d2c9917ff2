"""The file under a ledger: one SQLite table to which rows are only ever added, each with the hash of the one before."""

from __future__ import annotations

import os
import secrets
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ..errors import ExpungeError
from .canonical import canonical, decimals
from .chain import START, Event, Head
from .deletion import Source

FORMAT = "expunge-ledger/v1"
VERSION = 1
_COLUMNS = "seq, at, kind, request, body, previous, hash"
_TABLES = (
    """CREATE TABLE events (seq INTEGER PRIMARY KEY, at TEXT NOT NULL, kind TEXT NOT NULL, request INTEGER,
                            body TEXT NOT NULL, previous TEXT NOT NULL, hash TEXT NOT NULL)""",
    "CREATE TABLE head (one INTEGER PRIMARY KEY CHECK (one = 1), count INTEGER NOT NULL, hash TEXT NOT NULL)",
    *(
        f"CREATE TRIGGER no_{what} BEFORE {what} ON events "
        "BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END"
        for what in ("UPDATE", "DELETE")
    ),  # against accidents; the chain is what shows intent
)


class Rows:
    """An existing ledger file, or with `create` a new one (readable by its owner only). Raises `ExpungeError` for files
    that are none."""

    def __init__(self, path: Source, *, create: bool = False):
        self.path = Path(path)
        if not create and not self.path.is_file():
            raise ExpungeError(f"there is no ledger at {self.path}. `expunge ledger add` makes one.")
        with self._open() as db:
            db.execute("BEGIN")  # one snapshot: another process may make the tables between the two looks
            version = db.execute("PRAGMA user_version").fetchone()[0]
            tables = {row[0] for row in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            db.execute("COMMIT")
            if version > VERSION:
                raise ExpungeError(
                    f"{self.path} has version {version}, this one reads up to {VERSION}: upgrade expunge."
                )
            if version != VERSION and (tables or not create):
                raise ExpungeError(f"{self.path} is not a ledger of expunge. Name another file.")
        if version != VERSION:
            self._create()

    def events(self) -> list[Event]:
        """The rows as they are, in order. Raises `ExpungeError` where the file is damaged."""
        with self._open() as db:
            return [Event(*row) for row in db.execute(f"SELECT {_COLUMNS} FROM events ORDER BY seq")]

    def head(self) -> Head:
        """How many rows there are and the hash of the last: note it elsewhere, `check` can compare."""
        with self._open() as db:
            row = db.execute("SELECT count, hash FROM head").fetchone()
        return Head(*row) if row else Head(0, "")

    def _sound(self) -> list[str]:
        """What SQLite finds wrong with the file; ["ok"] for nothing."""
        with self._open() as db:
            return [row[0] for row in db.execute("PRAGMA integrity_check")]

    def _append(self, kind: str, request: int | None, body: dict[str, Any]) -> int:
        """Add a row and return the number of its request, a new one where none is given."""
        with self._open() as db:
            db.execute("BEGIN IMMEDIATE")  # others wait here, so that each sees the row before its own
            if request is None:
                request = 1 + db.execute("SELECT count(*) FROM events WHERE kind = 'request'").fetchone()[0]
            _insert(db, kind, request, body)
            db.execute("COMMIT")
        return request

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        if not self.path.exists():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            os.close(os.open(self.path, os.O_CREAT | os.O_RDWR, 0o600))
        try:
            with closing(sqlite3.connect(self.path, timeout=60, isolation_level=None)) as db:
                db.execute("PRAGMA synchronous = EXTRA")  # on disk before the lock is given back
                yield db
        except sqlite3.Error as error:
            raise ExpungeError(f"the ledger {self.path} cannot be used: {error}.") from error

    def _create(self) -> None:
        with self._open() as db:
            db.execute("BEGIN IMMEDIATE")
            if db.execute("PRAGMA user_version").fetchone()[0] == 0:  # no other process was faster
                for statement in _TABLES:
                    db.execute(statement)
                _insert(db, "ledger", None, {"format": FORMAT, "ledger": secrets.token_hex(16)})
                db.execute(f"PRAGMA user_version = {VERSION}")
            db.execute("COMMIT")


def _insert(db: sqlite3.Connection, kind: str, request: int | None, body: dict[str, Any]) -> None:
    """The next row of the chain, inside the caller's transaction."""
    last = db.execute("SELECT count, hash FROM head").fetchone()
    head = Head(*last) if last else Head(0, START)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    event = Event.after(head, now, kind, request, canonical(decimals(body)).decode())
    db.execute("INSERT INTO events VALUES (?, ?, ?, ?, ?, ?, ?)", tuple(event.__dict__.values()))
    db.execute("INSERT OR REPLACE INTO head VALUES (1, ?, ?)", (event.seq, event.hash))
