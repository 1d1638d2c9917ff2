"""The ledger of deletion requests: who asked, until when, what was run, which receipt came out.

It is one SQLite file, in which nothing is ever changed: every fact is a new row, and each row carries the
hash of the one before, so that an edited, inserted or missing row shows (`check`). Whoever can write the file
can also write a whole new chain; only a head (count and last hash) that was noted elsewhere shows that. Rows
are added under SQLite's own lock with a flush to disk, so concurrent writers wait for one another and a crash
leaves the rows before it.
"""

from __future__ import annotations

import os
import secrets
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

from ..errors import ExpungeError, raise_all
from ..files import write_private
from ..record import Record
from .canonical import canonical, decimals, file_form, parse
from .chain import Event, Head, check_events
from .deletion import DAYS, STATUSES, Request, Source, Status, audited, fitting_receipt, ids_hash, nfc
from .receipt import record_hash
from .verify import Check

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


class Ledger:
    """An existing ledger file, or with `create` a new one (readable by its owner only). Raises `ExpungeError`
    for files that are none."""

    def __init__(self, path: Source, *, create: bool = False):
        self.path = Path(path)
        if not create and not self.path.is_file():
            raise ExpungeError(f"there is no ledger at {self.path}. `expunge ledger add` makes one.")
        with self._open() as db:
            version = db.execute("PRAGMA user_version").fetchone()[0]
            tables = {row[0] for row in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            if version > VERSION:
                raise ExpungeError(
                    f"{self.path} has version {version}, this one reads up to {VERSION}: upgrade expunge."
                )
            if version != VERSION and (tables or not create):
                raise ExpungeError(f"{self.path} is not a ledger of expunge. Name another file.")
        if version != VERSION:
            self._create()

    # writing

    def add(
        self,
        subject: str,
        ids: Sequence[str] = (),
        *,
        received: str = "",
        due: str = "",
        days: int = DAYS,
        note: str = "",
    ) -> int:
        """Enter a request and return its number, from 1 on. `received` is today (UTC) unless given, `due`
        that day plus `days`.

        Of the sample `ids` only a salted hash and their number are kept. Raises `ExpungeError`, all problems
        listed.
        """
        problems = []
        if not subject.strip():
            problems.append("the subject is empty; give a reference that you can trace to the person.")
        if len(nfc(ids)) < len(ids):
            problems.append("an id is there twice; give each once.")
        start = _day("received", received, problems) or datetime.now(UTC).date()
        end = _day("due", due, problems) or start + timedelta(days=days)
        if end < start:
            problems.append(f"due on {end} is before received on {start}.")
        raise_all(problems)
        salt = secrets.token_hex(32)
        body = {
            "subject": subject.strip(),
            "received": start.isoformat(),
            "due": end.isoformat(),
            "ids": len(ids),
            "ids_salt": salt,
            "note": note,
            "ids_hash": ids_hash(salt, ids) if ids else "",
        }
        return self._append("request", None, body)

    def attach(
        self,
        request: int,
        *,
        record: Source | None = None,
        audit: Source | None = None,
        receipt: Source | None = None,
        secret: Source | None = None,
        ids: Sequence[str] = (),
        status: Status | None = None,
        note: str = "",
        public_key: Source | bytes | None = None,
    ) -> Request:
        """Add to a request: the run's record, the audit's, the receipt, a status; return how it stands.

        A receipt is verified (with the record and the public key where given) and kept whole; it makes the
        request done. With its `secret` and the request's `ids` it is checked that each of them is in the
        forget set. All is entered or nothing. Raises `ExpungeError` listing what does not fit.
        """
        now = self.request(request)
        body: dict[str, Any] = {}
        problems: list[str] = []
        if record is not None:
            run = Record.load(record)
            body["run"] = {
                "record": record_hash(record),
                "method": run.method,
                "kind": run.kind,
                "status": run.status,
            }
        if audit is not None:
            body["audit"] = audited(audit)
        if receipt is not None:
            body["receipt"], body["proved"] = fitting_receipt(
                now, receipt, record=record, secret=secret, ids=ids, public_key=public_key, problems=problems
            )
        elif secret is not None or ids:
            problems.append("ids and a secret prove something only with a receipt: give it too.")
        if status is not None:
            if status not in STATUSES:
                problems.append(f"the status {status!r} is unknown; use one of {', '.join(STATUSES)}.")
            body["status"] = status
        if not body:
            problems.append("nothing to attach: give a record, an audit, a receipt or a status.")
        raise_all(problems)
        self._append("attach", request, {**body, "note": note})
        return self.request(request)

    # reading

    def requests(self) -> list[Request]:
        """Every request as it stands now, in the order of entry."""
        found: dict[int, Request] = {}
        try:
            for event in self.events():
                body = parse(event.body.encode())
                if event.kind == "request" and event.request is not None:
                    found[event.request] = Request(event.request, **body)
                elif event.kind == "attach" and event.request in found:
                    found[event.request].apply(body)
        except (AttributeError, TypeError, KeyError) as error:
            raise ExpungeError(f"{self.path} has an unreadable row: see `expunge ledger check`.") from error
        return list(found.values())

    def request(self, number: int) -> Request:
        """One request. Raises `ExpungeError` for a number that is none."""
        for request in self.requests():
            if request.number == number:
                return request
        raise ExpungeError(f"there is no request {number}. `expunge ledger list` shows them.")

    def overdue(self, today: date | None = None) -> list[Request]:
        """Requests still to be answered whose day has passed, the oldest first."""
        today = today or datetime.now(UTC).date()
        return sorted((r for r in self.requests() if r.is_overdue(today)), key=lambda r: (r.due, r.number))

    def events(self) -> list[Event]:
        """The rows as they are, in order. Raises `ExpungeError` where the file is damaged."""
        with self._open() as db:
            return [Event(*row) for row in db.execute(f"SELECT {_COLUMNS} FROM events ORDER BY seq")]

    def head(self) -> Head:
        """How many rows there are and the hash of the last: note it elsewhere, `check` can compare."""
        with self._open() as db:
            row = db.execute("SELECT count, hash FROM head").fetchone()
        return Head(*row) if row else Head(0, "")

    def check(self, noted: Head | None = None) -> list[Check]:
        """Whether the file is sound, the chain unbroken, each receipt whole, `noted` a head it had."""
        try:
            with self._open() as db:
                sound = [row[0] for row in db.execute("PRAGMA integrity_check")]
            events, head = self.events(), self.head()
        except ExpungeError as error:
            return [Check("file", False, str(error))]
        return [
            Check.of("file", sound == ["ok"], "SQLite finds the file sound", "; ".join(sound)),
            *check_events(events, head, noted),
        ]

    def export(self, path: Source) -> None:
        """Write all rows and the head as JSON, readable by the owner only, never over an existing file."""
        rows = [{**event.__dict__, "body": parse(event.body.encode())} for event in self.events()]
        whole = {"format": FORMAT, "head": self.head().__dict__, "events": rows}
        write_private(path, file_form(whole).decode())

    # inside

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

    def _append(self, kind: str, request: int | None, body: dict[str, Any]) -> int:
        with self._open() as db:
            db.execute("BEGIN IMMEDIATE")  # others wait here, so that each sees the row before its own
            if request is None:
                request = 1 + db.execute("SELECT count(*) FROM events WHERE kind = 'request'").fetchone()[0]
            _insert(db, kind, request, body)
            db.execute("COMMIT")
        return request


def check_export(path: Source, noted: Head | None = None) -> list[Check]:
    """The checks of the chain on an exported file."""
    try:
        values = parse(Path(path).read_bytes())
        if values["format"] != FORMAT:
            raise ExpungeError("another format")
        events = [Event(**{**row, "body": canonical(row["body"]).decode()}) for row in values["events"]]
        return check_events(events, Head(**values["head"]), noted)
    except (OSError, ExpungeError, TypeError, KeyError) as error:
        return [Check("file", False, f"{path} is not an exported ledger: {error}")]


def _insert(db: sqlite3.Connection, kind: str, request: int | None, body: dict[str, Any]) -> None:
    """The next row of the chain, inside the caller's transaction."""
    last = db.execute("SELECT count, hash FROM head").fetchone()
    head = Head(*last) if last else Head(0, "0" * 64)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    event = Event.after(head, now, kind, request, canonical(decimals(body)).decode())
    db.execute("INSERT INTO events VALUES (?, ?, ?, ?, ?, ?, ?)", tuple(event.__dict__.values()))
    db.execute("INSERT OR REPLACE INTO head VALUES (1, ?, ?)", (event.seq, event.hash))


def _day(name: str, text: str, problems: list[str]) -> date | None:
    """The day that `text` names, None for no text; what is wrong with it goes to `problems`."""
    try:
        return date.fromisoformat(text) if text else None
    except ValueError:
        problems.append(f"{name} is {text!r}; write a day as 2026-01-31.")
        return None
