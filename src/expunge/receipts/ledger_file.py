"""The SQLite file of a ledger: one table to which rows are only added.

Each row carries the hash of the row before it.
"""

from __future__ import annotations

import json
import secrets
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

from ..errors import ExpungeError, WriteError
from ..records.atomic_files import atomic
from ..records.part_files import private_file
from .deletion import Source
from .ledger_rows import Event, LedgerHead, insert_row, read_head
from .ledger_schema import BASE, schema_problems
from .ledger_state import VERIFIED, catch_up, read_book, rows_after, set_mark

FORMAT = "expunge-ledger/v1"
VERSION = 1


class LedgerFile:
    """Open a ledger file.

    Args:
        path: The file.
        create: Make the file if it does not exist. It is readable by its owner only.
        any_schema: Open a file also if tables, triggers or indexes were altered, for `check`, which names them.

    Raises:
        ExpungeError: The file does not exist, is not a ledger, was made by a newer version, or has another schema.
    """

    def __init__(self, path: Source, *, create: bool = False, any_schema: bool = False):
        self.path = Path(path)
        if create and not self.path.exists():
            self._make()
        if not create and not self.path.is_file():
            raise ExpungeError(
                f"there is no ledger at {self.path}. Name another file, or make one with `expunge ledger add`."
            )
        with self._open() as db:
            # One snapshot: another process may create the tables between the two queries.
            db.execute("BEGIN")
            version = db.execute("PRAGMA user_version").fetchone()[0]
            tables = {row[0] for row in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            altered = schema_problems(db) if version == VERSION and not any_schema else []
            db.execute("COMMIT")
            if version > VERSION:
                raise ExpungeError(
                    f"{self.path} has ledger version {version}; this Expunge reads up to {VERSION}. Upgrade Expunge."
                )
            if version != VERSION and (tables or not create):
                raise ExpungeError(f"{self.path} is not a ledger of Expunge. Name another file.")
            if altered:
                raise ExpungeError(
                    f"the schema of {self.path} was changed: {'; '.join(altered)}. Run `expunge ledger check` to see whether the "
                    "rows are whole, and restore the file from a backup."
                )
        if version != VERSION:
            self._create()

    def events(self) -> list[Event]:
        """Return all rows in order.

        Raises:
            ExpungeError: The file is damaged.
        """
        with self._open() as db:
            return read_events(db)

    def head(self) -> LedgerHead:
        """Return the ledger head: the number of rows and the hash of the last row.

        Note it in another place. A later `check` can compare the ledger with it.
        """
        with self._open() as db:
            return read_head(db)

    def has(self, noted: LedgerHead) -> bool:
        """Return whether the ledger has, or once had, this head. Only one row is read."""
        with self._open() as db:
            row = db.execute("SELECT hash FROM events WHERE seq = ?", (noted.count,)).fetchone()
        return row is not None and row[0] == noted.hash

    def done_on(self) -> dict[int, str]:
        """Return {number of a done request: the day (UTC, ISO) on which it became done}. Later receipts do not change it."""
        with self._open() as db:
            rows = db.execute(
                "SELECT request, at, body FROM events WHERE kind = 'attach' ORDER BY seq"
            ).fetchall()
        days: dict[int, str] = {}
        for request, at, body in rows:
            content = self._content(body)
            status = content.get("status") or ("done" if "receipt" in content else "")
            if status == "done":
                days.setdefault(request, at[:10])
            elif status:
                days.pop(request, None)
        return days

    def receipts(self, naming: str = "", *, of_project: bool = False) -> list[dict[str, Any]]:
        """Return the receipts that rows hold, in the order of entry, as the ledger stores them.

        Args:
            naming: A text that the row must hold, such as the hash of a model. Default: all receipts.
            of_project: Whether to return only those that a project attached after its own runs.
        """
        query = "SELECT body FROM events WHERE kind = 'attach' AND instr(body, '\"receipt\":{') AND instr(body, ?)"
        with self._open() as db:
            bodies = [row[0] for row in db.execute(f"{query} ORDER BY seq", (naming,))]
        contents = map(self._content, bodies)
        return [
            body["receipt"]
            for body in contents
            if "receipt" in body and (body.get("project") or not of_project)
        ]

    def _content(self, body: str) -> dict[str, Any]:
        """Return the content of a row. Raises `ExpungeError` if it cannot be read."""
        try:
            content = json.loads(body)
            if isinstance(content, dict):
                return content
        except (TypeError, ValueError):
            pass
        raise ExpungeError(f"{self.path} has a row that cannot be read. `expunge ledger check` says which.")

    def count(self) -> int:
        """Return the number of requests."""
        with self.snapshot() as db:
            return read_book(db, self.path).last

    def integrity(self) -> list[str]:
        """Return what SQLite finds wrong with the file, or ["ok"]."""
        with self._open() as db:
            return [row[0] for row in db.execute("PRAGMA integrity_check")]

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Write rows together: all of them or, after an error, none.

        Raises:
            ExpungeError: Another file has taken the place of the ledger in the meantime, so that the rows would be lost.
        """
        found = _identity(self.path)
        with self._open() as db:
            # Other writers wait here, so each of them sees the row before its own.
            db.execute("BEGIN IMMEDIATE")
            if _identity(self.path) != found:
                raise ExpungeError(
                    f"{self.path} was replaced by a command of its project before the rows were written; write them again."
                )
            yield db
            try:
                db.execute("COMMIT")
            except sqlite3.Error as error:
                # such as a full disk behind the commit: SQLite does not say whether the rows are there
                raise ExpungeError(
                    f"the ledger {self.path} cannot be used: {error}. The rows may be there all the same: see `expunge ledger list` "
                    "before you enter them again."
                ) from error

    @contextmanager
    def snapshot(self) -> Iterator[sqlite3.Connection]:
        """Read the file as it is at one moment, whatever other processes write."""
        with self._open() as db:
            db.execute("BEGIN")
            yield db
            db.execute("COMMIT")

    def _make(self) -> None:
        """Make the file beside its place, and link it there when it is whole: a killed process leaves none without tables."""
        try:
            with atomic(self.path, private=True, replaces=False) as part:
                self._create(part)
        except WriteError:
            raise
        except ExpungeError:
            # another process has made it in the meantime
            if not self.path.exists():
                raise

    @contextmanager
    def _open(self, place: Path | None = None) -> Iterator[sqlite3.Connection]:
        place = self.path if place is None else place
        if not place.exists():
            place.parent.mkdir(parents=True, exist_ok=True)
            with suppress(FileExistsError):
                private_file(place)
        try:
            with closing(sqlite3.connect(place, timeout=60, isolation_level=None)) as db:
                try:
                    # The row is on disk before the lock is released.
                    db.execute("PRAGMA synchronous = EXTRA")
                # SQLite quotes a damaged schema in its error
                except UnicodeDecodeError:
                    raise sqlite3.DatabaseError("the schema is no text") from None
                yield db
        except sqlite3.Error as error:
            raise ExpungeError(
                f"the ledger {self.path} cannot be used: {error}. Name a ledger file, or restore it from a backup."
            ) from error

    def _create(self, place: Path | None = None) -> None:
        """Make the tables, in a file at another place if it is given."""
        with self._open(place) as db:
            db.execute("BEGIN IMMEDIATE")
            # Another process may have created the tables in the meantime.
            if db.execute("PRAGMA user_version").fetchone()[0] == 0:
                for statement in BASE:
                    db.execute(statement)
                insert_row(db, "ledger", None, {"format": FORMAT, "ledger": secrets.token_hex(16)})
                catch_up(db, self.path)
                set_mark(db, VERIFIED, read_head(db))
                db.execute(f"PRAGMA user_version = {VERSION}")
            db.execute("COMMIT")


def _identity(path: Path) -> tuple[int, int] | None:
    """Return what differs between two files that have the same path one after the other. None without a file."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def read_events(db: sqlite3.Connection) -> list[Event]:
    """Return all rows in order."""
    return rows_after(db, -(2**62))
