"""The ledger of deletion requests: who asked, when the answer is due, what was run, which receipt came out.

A ledger is one SQLite file in which no row is ever changed. Every fact is a new row with the hash of the row
before it, so `Ledger.check` finds a row that was edited, inserted or removed. A person who can write the file can
also write a whole new chain. Only a ledger head (row count and last hash) that was noted elsewhere shows that.

Concurrent writers wait for each other's lock. Each row is flushed to disk, so a crash leaves the rows before it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import date
from typing import Any

from ..days import utc_today
from ..records.atomic_files import write_private
from .canonical import file_form, parse
from .deletion import DAYS, Request, Source, Status
from .keys import load_public
from .ledger_attach import attachment, reopened_rows, unknown_returns
from .ledger_check import check_export, check_file
from .ledger_file import FORMAT, LedgerFile
from .ledger_rows import LedgerHead, insert_row, read_head
from .ledger_state import VERIFIED, catch_up, many_objects, mark, read_book, set_mark
from .limits import Limits
from .replay import Book
from .request_entry import request_entry
from .verify import Check

__all__ = ["DAYS", "Ledger", "check_export"]


class Ledger(LedgerFile):
    """Keep deletion requests in a tamper-evident file.

    Args:
        path: The file.
        create: Make the file if it does not exist. It is readable by its owner only.
        any_schema: Open a file also if tables, triggers or indexes were altered, for `check`, which names them.

    Raises:
        ExpungeError: The file does not exist, is not a ledger, was made by a newer version, or has another schema.

    Example:
        >>> ledger = Ledger("requests.db", create=True)
        >>> number = ledger.add("case 2026-114", ["user-17", "user-230"], received="2026-11-20")
        >>> ledger.attach(number, record="new.json", receipt="new.receipt.json").status
        'done'
        >>> ledger.overdue()
        []
    """

    def add(
        self,
        subject: str,
        ids: Sequence[str] = (),
        *,
        received: str = "",
        due: str = "",
        days: int = DAYS,
        note: str = "",
        classes: Sequence[str] = (),
        concept: str = "",
        project: bool = False,
    ) -> int:
        """Enter a request.

        Args:
            subject: A reference to the person. Do not use the name: rows cannot be deleted.
            ids: Ids of the samples to forget. The ledger keeps only their number and a salted hash.
            received: Day on which the request came, as 2026-01-31. Default: today (UTC).
            due: Day by which it must be answered. Default: `days` after `received`.
            days: Days to answer in, 0 to 3650. Default 28.
            note: Any text.
            classes: Classes to forget, by name or number. The ledger keeps only salted hashes.
            concept: Concept to erase. The ledger keeps only a salted hash.
            project: Whether a project enters the request. Its commands then miss it if it is not in `state.json`.

        Returns:
            The number of the request, from 1.

        Raises:
            ExpungeError: The request is not valid. All problems are listed.
        """
        entry = request_entry(subject, ids, received, due, days, note, classes, concept, project)
        with self.transaction() as db:
            number, before = 1 + catch_up(db, self.path).last, read_head(db)
            insert_row(db, "request", number, entry)
            self._entered(db, before)
        return number

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
        known: Mapping[str, Collection[int]] | None = None,
        project: bool = False,
    ) -> Request:
        """Attach evidence or a status to a request. If one does not fit, none is entered. Requests that came back are reopened.

        Args:
            request: Number of the request.
            record: File of the run's record. The run must remove something and must not have diverged.
            audit: File of the audit's record. It must audit the model that the run ended with.
            receipt: File of the receipt. It is verified and kept whole. The request is then done; `Request.missing`
                lists what it lacks to be proved.
            secret: File of the receipt's secret. With `ids`, it proves that each id is in the forget set.
            ids: The ids of the request. They need `secret`.
            status: The new status: open, running, done, refused or withdrawn.
            note: Any text without control characters.
            public_key: Public key that must have signed the receipt.
            known: {hash of the split of an earlier request: its numbers}, for what an audit says of earlier requests.
                By default the audits of these requests say which they are.
            project: Whether a project attaches one of its own runs. A receipt from elsewhere says nothing of its models.

        Returns:
            The new state of the request. `reopened` has the numbers of those that an audit reopened.

        Raises:
            ExpungeError: Something does not fit. All problems are listed.
        """
        given = (record, audit, receipt, status, note)
        proof: dict[str, Any] = {"secret": secret, "ids": ids, "public_key": public_key}
        with self.transaction() as db:
            book, before = catch_up(db, self.path), read_head(db)
            body = attachment(book, book.known(request), *given, proof, known or {})
            body |= {"project": True} if project else {}
            rows, unknown = reopened_rows(book, request, body), unknown_returns(book, body)
            insert_row(db, "attach", request, body)
            for number, row in rows.items():
                insert_row(db, "attach", number, row)
            state = self._entered(db, before).known(request)
        return replace(state, reopened=tuple(rows), unknown_returns=unknown)

    def set_limits(
        self,
        *,
        keys: Sequence[Source | bytes] | None = None,
        max_gap: float | None = None,
        refused_words: Sequence[str] | None = None,
    ) -> Limits:
        """Set the limits that a done request must meet to be proved. They apply to all requests, also to old ones.

        Args:
            keys: Public keys, one of which must have signed the receipt. Empty: no signature is needed.
            max_gap: Largest average gap to Retrain, in points.
            refused_words: Verdict words that are not accepted.

        Returns:
            The new limits. What is None stays as it was.

        Raises:
            ExpungeError: A value is wrong.
        """
        changes: dict[str, Any] = {"max_gap": max_gap}
        changes["keys"] = None if keys is None else tuple(load_public(key).hex() for key in keys)
        changes["refused_words"] = None if refused_words is None else tuple(refused_words)
        with self.transaction() as db:
            limits, before = catch_up(db, self.path).limits, read_head(db)
            limits = replace(limits, **{k: v for k, v in changes.items() if v is not None})
            insert_row(db, "limits", None, limits.to_dict())
            self._entered(db, before)
        return limits

    def _entered(self, db: sqlite3.Connection, before: LedgerHead) -> Book:
        """Bring the stored state to the rows entered behind the head `before`, and return it."""
        book = catch_up(db, self.path)
        # a receipt is verified before its row is entered
        if mark(db, VERIFIED) == before:
            set_mark(db, VERIFIED, read_head(db))
        return book

    @property
    def limits(self) -> Limits:
        """The limits of the ledger."""
        with self.snapshot() as db:
            return read_book(db, self.path).limits

    def requests(self) -> list[Request]:
        """Return the current state of every request, in the order of entry.

        Raises:
            ExpungeError: A row cannot be read.
        """
        with many_objects(), self.snapshot() as db:
            return list(read_book(db, self.path, every=True).requests())

    def request(self, number: int) -> Request:
        """Return the current state of one request.

        Raises:
            ExpungeError: There is no request with this number.
        """
        with self.snapshot() as db:
            return read_book(db, self.path).known(number)

    def answered_by(self, name: str) -> list[int]:
        """Return the numbers of the requests that a run answered, by the id of its receipt or the hash of its record."""
        with self.snapshot() as db:
            return read_book(db, self.path).answered_by(name)

    def overdue(self, today: date | None = None) -> list[Request]:
        """Return the requests past their due day that are not closed, or not proved, the oldest due day first.

        Args:
            today: The day to compare with. Default: today (UTC).
        """
        today = today or utc_today()
        return sorted((r for r in self.requests() if r.is_overdue(today)), key=lambda r: (r.due, r.number))

    def check(
        self, noted: LedgerHead | None = None, *, full: bool = False, remember: bool = True
    ) -> list[Check]:
        """Check the file, its hash chain, its receipts, and the state that is stored for quick reading.

        The hash of every row is computed. A receipt that was verified before is not verified again, because the chain shows
        that it has not changed since. The stored state must have its digest.

        Args:
            noted: A ledger head from an earlier time. The check fails if the ledger never had it.
            full: Verify every receipt again, and compute the state again from all rows.
            remember: Whether later checks may rely on this one. Without it, the file is not written.
        """
        with many_objects():
            return check_file(self, noted, full, remember)

    def export(self, path: Source) -> None:
        """Write all rows and the ledger head as one JSON file, readable by its owner only.

        Raises:
            ExpungeError: The file exists. It is never replaced.
        """
        rows = [{**event.__dict__, "body": parse(event.body.encode())} for event in self.events()]
        content = {"format": FORMAT, "head": self.head().__dict__, "events": rows}
        write_private(path, file_form(content).decode())
