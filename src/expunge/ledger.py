"""The ledger of deletion requests: who asked, until when, what was run, which receipt came out. One SQLite file.

Nothing in it is ever changed: every fact is a new row, and each row carries the hash of the one before, so that an
edited, inserted or missing row shows (`check`). Whoever can write the file can also write a whole new chain; only a
head (count and last hash) that was noted elsewhere shows that. Rows are added under SQLite's own lock with a flush
to disk, so concurrent writers wait for one another and a crash leaves the rows before it.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import sqlite3
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

from .canonical import canonical, decimals, file_form, parse
from .chain import Event, Head, check_events
from .errors import ExpungeError, raise_all
from .files import write_private
from .merkle import Secret
from .receipt import Receipt, record_hash
from .record import Record, plain
from .verify import Check, verify

FORMAT = "expunge-ledger/v1"
VERSION = 1
DAYS = 30  # a month at the latest, GDPR article 12 (3); other laws and contracts differ

Status = Literal["open", "running", "done", "refused", "withdrawn"]
CLOSED = ("done", "refused", "withdrawn")
STATUSES = ("open", "running", *CLOSED)

_COLUMNS = "seq, at, kind, request, body, previous, hash"
_TABLES = (
    """CREATE TABLE events (seq INTEGER PRIMARY KEY, at TEXT NOT NULL, kind TEXT NOT NULL, request INTEGER,
                            body TEXT NOT NULL, previous TEXT NOT NULL, hash TEXT NOT NULL)""",
    "CREATE TABLE head (one INTEGER PRIMARY KEY CHECK (one = 1), count INTEGER NOT NULL, hash TEXT NOT NULL)",
    *(f"CREATE TRIGGER no_{what} BEFORE {what} ON events BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END"
      for what in ("UPDATE", "DELETE")),  # against accidents; the chain is what shows intent
)


@dataclass
class Request:
    """One deletion request as it stands now. Dates are days (ISO); hashes 64 hex digits; "" where there is none yet."""

    number: int
    subject: str  # a reference to the person, better not the name: rows cannot be deleted
    received: str
    due: str
    ids: int = 0  # how many sample ids were named
    ids_salt: str = ""
    ids_hash: str = ""
    status: Status = "open"
    run: str = ""  # hash of the run's record
    method: str = ""
    audit: str = ""  # hash of the audit's record
    verdict: str = ""
    receipt: str = ""  # its id
    proved: bool = False  # every id of the request was shown to be in the receipt's forget set
    note: str = ""

    def is_overdue(self, today: date) -> bool:
        """True if it is still to be answered and its day has passed."""
        return self.status not in CLOSED and date.fromisoformat(self.due) < today


class Ledger:
    """An existing ledger file, or with `create` a new one (readable by its owner only). Raises `ExpungeError` for
    files that are none."""

    def __init__(self, path: str | os.PathLike[str], *, create: bool = False):
        self.path = Path(path)
        if not create and not self.path.is_file():
            raise ExpungeError(f"there is no ledger at {self.path}. `expunge ledger add` makes one.")
        with self._open() as db:
            version = db.execute("PRAGMA user_version").fetchone()[0]
            tables = {row[0] for row in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            if version > VERSION:
                raise ExpungeError(f"{self.path} has version {version}, this one reads up to {VERSION}: upgrade expunge.")
            if version != VERSION and (tables or not create):
                raise ExpungeError(f"{self.path} is not a ledger of expunge. Name another file.")
        if version != VERSION:
            self._create()

    # writing

    def add(self, subject: str, ids: Sequence[str] = (), *, received: str = "", due: str = "", days: int = DAYS,
            note: str = "") -> int:
        """Enter a request and return its number, from 1 on. `received` is today (UTC) unless given, `due` that day plus `days`.

        Of the sample `ids` only a salted hash and their number are kept. Raises `ExpungeError` listing all that is wrong.
        """
        problems = [] if subject.strip() else ["the subject is empty; give a reference that you can trace to the person."]
        if len(_names(ids)) < len(ids):
            problems.append("an id is there twice; give each once.")
        start = _day("received", received, problems) or datetime.now(UTC).date()
        end = _day("due", due, problems) or start + timedelta(days=days)
        if end < start:
            problems.append(f"due on {end} is before received on {start}.")
        raise_all(problems)
        salt = secrets.token_hex(32)
        body = {"subject": subject.strip(), "received": start.isoformat(), "due": end.isoformat(), "ids": len(ids), "ids_salt": salt, "ids_hash": _ids_hash(salt, ids) if ids else "", "note": note}
        return self._append("request", None, body)

    def attach(self, request: int, *, record: str | os.PathLike[str] | None = None,
               audit: str | os.PathLike[str] | None = None, receipt: str | os.PathLike[str] | None = None,
               secret: str | os.PathLike[str] | None = None, ids: Sequence[str] = (), status: Status | None = None,
               note: str = "", public_key: str | os.PathLike[str] | bytes | None = None) -> Request:
        """Add to a request: the record of the run, that of the audit, the receipt, a status; return how it stands.

        A receipt is verified (with the record and the public key where given) and kept whole; it makes the request
        done. With its `secret` and the request's `ids` it is checked that each of them is in the forget set. All is
        entered or nothing. Raises `ExpungeError` listing what does not fit.
        """
        now = self.request(request)
        body: dict[str, Any] = {}
        problems: list[str] = []
        if record is not None:
            run = Record.load(record)
            body["run"] = {"record": record_hash(record), "method": run.method, "kind": run.kind, "status": run.status}
        if audit is not None:
            body["audit"] = _audited(audit)
        if receipt is not None:
            body["receipt"], body["proved"] = self._receipt(now, receipt, record, secret, ids, public_key, problems)
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
                    _apply(found[event.request], body)
        except (AttributeError, TypeError, KeyError) as error:
            raise ExpungeError(f"{self.path} has a row that cannot be read: see `expunge ledger check`.") from error
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
        """Whether the file is sound, the chain unbroken, every receipt in it as it was, and `noted` a head it once had."""
        try:
            with self._open() as db:
                sound = [row[0] for row in db.execute("PRAGMA integrity_check")]
            events, head = self.events(), self.head()
        except ExpungeError as error:
            return [Check("file", False, str(error))]
        return [Check("file", sound == ["ok"], "SQLite finds the file sound" if sound == ["ok"] else "; ".join(sound)),
                *check_events(events, head, noted)]

    def export(self, path: str | os.PathLike[str]) -> None:
        """Write all rows and the head as JSON, readable by the owner only; an existing file is not replaced."""
        rows = [{**event.__dict__, "body": parse(event.body.encode())} for event in self.events()]
        write_private(path, file_form({"format": FORMAT, "head": self.head().__dict__, "events": rows}).decode())

    # inside

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        if not self.path.exists():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            os.close(os.open(self.path, os.O_CREAT | os.O_RDWR, 0o600))
        try:
            with closing(sqlite3.connect(self.path, timeout=60, isolation_level=None)) as db:
                db.execute("PRAGMA synchronous = EXTRA")  # on disk before the lock is given back, journal's folder included
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

    def _receipt(self, request: Request, path: str | os.PathLike[str], record: Any, secret: Any, ids: Sequence[str],
                 public_key: Any, problems: list[str]) -> tuple[dict[str, Any], bool]:
        """The receipt's content and whether it was shown to cover the request's ids; what does not fit in `problems`."""
        opened = Secret.load(secret) if secret is not None else None
        problems += [f"{path}: {c.words}." for c in verify(path, record=record, public_key=public_key, secret=opened) if not c.ok]
        if problems:
            return {}, False
        found = Receipt.load(path)
        said = found.statement
        if request.run and record is None and said["record"] != request.run:
            problems.append(f"{path} is for another run than the one attached to request {request.number}.")
        if (opened is None) != (not ids):
            problems.append("to prove that the ids are in the forget set, both the ids and the secret are needed.")
        if ids and _ids_hash(request.ids_salt, ids) != request.ids_hash:
            problems.append(f"these are not the {request.ids} ids of request {request.number}.")
        if opened is not None and not problems:
            for name in ids:
                try:
                    opened.prove(name)
                except ExpungeError as error:
                    problems.append(str(error))
        return parse(found.to_bytes()), bool(ids)


def check_export(path: str | os.PathLike[str], noted: Head | None = None) -> list[Check]:
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


def _apply(request: Request, body: dict[str, Any]) -> None:
    """Bring `request` up to date with one attachment."""
    if "run" in body:
        request.run, request.method = body["run"]["record"], body["run"]["method"]
        request.status = "running" if request.status == "open" else request.status
    if "audit" in body:
        request.audit, request.verdict = body["audit"]["record"], body["audit"]["verdict"]
    if "receipt" in body:
        request.receipt, request.proved, request.status = body["receipt"]["id"], body["proved"], "done"
        request.method = body["receipt"]["statement"]["method"]
    request.status = body.get("status", request.status)
    request.note = body["note"] or request.note


def _audited(path: str | os.PathLike[str]) -> dict[str, Any]:
    """What the ledger keeps of an audit: its record's hash, the scores, the verdict in words."""
    audit = Record.load(path)
    verdict = audit.details.get("verdict", "")
    words = verdict if isinstance(verdict, str) else str(verdict.get("words", "") if isinstance(verdict, dict) else verdict)
    scores = {k: v for k, v in plain(audit.scores).items() if isinstance(v, int | float) and k.isascii()}
    return {"record": record_hash(path), "scores": scores, "verdict": words}


def _day(name: str, text: str, problems: list[str]) -> date | None:
    """The day that `text` names, None for no text; what is wrong with it goes to `problems`."""
    try:
        return date.fromisoformat(text) if text else None
    except ValueError:
        problems.append(f"{name} is {text!r}; write a day as 2026-01-31.")
        return None


def _names(ids: Sequence[str]) -> set[str]:
    return {unicodedata.normalize("NFC", name) for name in ids}


def _ids_hash(salt: str, ids: Sequence[str]) -> str:
    return hmac.new(bytes.fromhex(salt), canonical(sorted(_names(ids))), hashlib.sha256).hexdigest()
