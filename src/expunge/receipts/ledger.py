"""The ledger of deletion requests: who asked, when the answer is due, what was run, which receipt came out.

A ledger is one SQLite file in which no row is ever changed. Every fact is a new row with the hash of the row
before it, so `Ledger.check` finds a row that was edited, inserted or removed. A person who can write the file can
also write a whole new chain. Only a ledger head (row count and last hash) that was noted elsewhere shows that.

Concurrent writers wait for each other's lock. Each row is flushed to disk, so a crash leaves the rows before it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from ..errors import ExpungeError, raise_all
from ..records.atomic_files import write_private
from .canonical import canonical, file_form, parse
from .chain import Event, LedgerHead, check_events
from .deletion import (
    DAYS,
    STATUSES,
    Request,
    Source,
    Status,
    audit_entry,
    receipt_entry,
    request_entry,
    run_entry,
)
from .ledger_file import FORMAT, LedgerFile
from .verify import Check


class Ledger(LedgerFile):
    """Keep deletion requests in a tamper-evident file.

    Args:
        path: The file.
        create: Make the file if it does not exist. It is readable by its owner only.

    Raises:
        ExpungeError: The file does not exist, is not a ledger, or was made by a newer version.

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
    ) -> int:
        """Enter a request.

        Args:
            subject: A reference to the person. Do not use the name: rows cannot be deleted.
            ids: Ids of the samples to forget. The ledger keeps only their number and a salted hash.
            received: Day on which the request came, as 2026-01-31. Default: today (UTC).
            due: Day by which it must be answered. Default: `days` after `received`.
            days: Days to answer in, 0 to 3650. Default 28.
            note: Any text.

        Returns:
            The number of the request, from 1.

        Raises:
            ExpungeError: The request is not valid. All problems are listed.
        """
        return self._append("request", None, request_entry(subject, ids, received, due, days, note))

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
        """Attach a record, an audit, a receipt or a status to a request. If one does not fit, none is entered.

        Args:
            request: Number of the request.
            record: File of the run's record. The run must remove something and must not have diverged.
            audit: File of the audit's record. It must audit the model that the run ended with.
            receipt: File of the receipt. It is verified and kept whole. The request is then done.
            secret: File of the receipt's secret. With `ids`, it proves that each id is in the forget set.
            ids: The ids of the request. They need `secret`.
            status: The new status: open, running, done, refused or withdrawn.
            note: Any text.
            public_key: Public key that must have signed the receipt.

        Returns:
            The new state of the request.

        Raises:
            ExpungeError: Something does not fit. All problems are listed.
        """
        current = self.request(request)
        body: dict[str, Any] = {}
        problems: list[str] = []
        if record is not None:
            body["run"] = run_entry(record, problems)
        if audit is not None:
            body["audit"] = audit_entry(audit)
        if receipt is not None:
            body["receipt"], body["proved"] = receipt_entry(
                current,
                receipt,
                record=record,
                secret=secret,
                ids=ids,
                public_key=public_key,
                problems=problems,
            )
        elif secret is not None or ids:
            problems.append("ids and a secret prove something only with a receipt. Give the receipt too.")
        if status is not None:
            if status not in STATUSES:
                problems.append(f"the status {status!r} is unknown. Use one of {', '.join(STATUSES)}.")
            body["status"] = status
        if not problems:
            problems += _audit_problems(current, {**body, "note": note})
        if not body:
            problems.append("there is nothing to attach. Give a record, an audit, a receipt or a status.")
        raise_all(problems)
        self._append("attach", request, {**body, "note": note})
        return self.request(request)

    def requests(self) -> list[Request]:
        """Return the current state of every request, in the order of entry.

        Raises:
            ExpungeError: A row cannot be read.
        """
        requests: dict[int, Request] = {}
        try:
            for event in self.events():
                body = parse(event.body.encode())
                if event.kind == "request" and event.request is not None:
                    requests[event.request] = Request(event.request, **body)
                elif event.kind == "attach" and event.request in requests:
                    requests[event.request].apply(body)
        except (AttributeError, TypeError, KeyError) as error:
            raise ExpungeError(
                f"{self.path} has a row that cannot be read. `expunge ledger check` says which."
            ) from error
        return list(requests.values())

    def request(self, number: int) -> Request:
        """Return the current state of one request.

        Raises:
            ExpungeError: There is no request with this number.
        """
        for request in self.requests():
            if request.number == number:
                return request
        raise ExpungeError(f"there is no request {number}. `expunge ledger list` shows all requests.")

    def overdue(self, today: date | None = None) -> list[Request]:
        """Return the requests that are not closed and past their due day, the oldest due day first.

        Args:
            today: The day to compare with. Default: today (UTC).
        """
        today = today or datetime.now(UTC).date()
        return sorted((r for r in self.requests() if r.is_overdue(today)), key=lambda r: (r.due, r.number))

    def check(self, noted: LedgerHead | None = None) -> list[Check]:
        """Check the file, its hash chain and every receipt in it.

        Args:
            noted: A ledger head from an earlier time. The check fails if the ledger never had it.
        """
        try:
            integrity, events, head = self._integrity(), self.events(), self.head()
        except ExpungeError as error:
            return [Check("file", False, str(error))]
        return [
            Check.of("file", integrity == ["ok"], "SQLite finds no damage in the file", "; ".join(integrity)),
            *check_events(events, head, noted),
        ]

    def export(self, path: Source) -> None:
        """Write all rows and the ledger head as one JSON file, readable by its owner only.

        Raises:
            ExpungeError: The file exists. It is never replaced.
        """
        rows = [{**event.__dict__, "body": parse(event.body.encode())} for event in self.events()]
        content = {"format": FORMAT, "head": self.head().__dict__, "events": rows}
        write_private(path, file_form(content).decode())


def _audit_problems(current: Request, body: dict[str, Any]) -> list[str]:
    """List what is wrong if the audit of a request would be of another model than the run's."""
    updated = replace(current)
    updated.apply(body)
    if not updated.model or not updated.audit_model or updated.model == updated.audit_model:
        return []
    return [
        f"the audit is of another model ({updated.audit_model[:12]}) than the one that the run ended with "
        f"({updated.model[:12]}). Audit the model of the run."
    ]


def check_export(path: Source, noted: LedgerHead | None = None) -> list[Check]:
    """Run the checks of the hash chain on an exported file.

    Args:
        path: The file that `Ledger.export` wrote.
        noted: A ledger head from an earlier time. The check fails if the ledger never had it.
    """
    try:
        values = parse(Path(path).read_bytes())
        if values["format"] != FORMAT:
            raise ExpungeError(f"its format is not {FORMAT}")
        events = [Event(**{**row, "body": canonical(row["body"]).decode()}) for row in values["events"]]
        return check_events(events, LedgerHead(**values["head"]), noted)
    except (OSError, ExpungeError, TypeError, KeyError) as error:
        return [Check("file", False, f"{path} is not an exported ledger: {error}")]
