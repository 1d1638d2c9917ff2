"""The ledger of deletion requests: who asked, until when, what was run, which receipt came out.

It is one SQLite file, in which nothing is ever changed: every fact is a new row, and each row carries the
hash of the one before, so that an edited, inserted or missing row shows (`check`). Whoever can write the file
can also write a whole new chain; only a head (count and last hash) that was noted elsewhere shows that. Rows
are added under SQLite's own lock with a flush to disk, so concurrent writers wait for one another and a crash
leaves the rows before it.
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
from .chain import Event, Head, check_events
from .deletion import DAYS, STATUSES, Request, Source, Status, audited, entered, fitting_receipt, ran
from .rows import FORMAT, Rows
from .verify import Check


class Ledger(Rows):
    """Deletion requests in a ledger file: entered, answered, listed, checked."""

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
        return self._append("request", None, entered(subject, ids, received, due, days, note))

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
        request done. A run must be one that removes something and must not have diverged, and an audit one of the model
        that it ended with. With its `secret` and the request's `ids` it is checked that each of them is in the
        forget set. All is entered or nothing. Raises `ExpungeError` listing what does not fit.
        """
        now = self.request(request)
        body: dict[str, Any] = {}
        problems: list[str] = []
        if record is not None:
            body["run"] = ran(record, problems)
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
        if not problems:
            problems += _strange(now, {**body, "note": note})
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

    def check(self, noted: Head | None = None) -> list[Check]:
        """Whether the file is sound, the chain unbroken, each receipt whole, `noted` a head it had."""
        try:
            sound, events, head = self._sound(), self.events(), self.head()
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


def _strange(now: Request, body: dict[str, Any]) -> list[str]:
    """What is wrong if the audit of a request looked at another model than its run ended with."""
    then = replace(now)
    then.apply(body)
    if not then.model or not then.audit_model or then.model == then.audit_model:
        return []
    return [
        f"the audit looked at another model ({then.audit_model[:12]}) than the one that the run ended with "
        f"({then.model[:12]}); audit that one."
    ]


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
