"""The command `ledger`: deletion requests and their receipts, one dataclass an action."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated, Any, Union

import tyro
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from ..data.forget_set import read_ids
from ..errors import ExpungeError
from ..receipts.chain import Head
from ..receipts.deletion import DAYS, Request, Status, a_month_after, request_entry
from ..receipts.ledger import Ledger, check_export
from .flags import notice
from .receipt import Place, secret_path, show_checks


@dataclass
class Add:
    """Enter a deletion request; the first one makes the file."""

    ledger: Place  # the ledger file
    subject: tyro.conf.Positional[str]  # a reference to the person, not the name: entries cannot be deleted
    ids: Path | None = None  # text file with the sample ids, one a line; only a salted hash of them is kept
    received: str = ""  # day the request came, as 2026-01-31; today (UTC) by default
    due: str = ""  # day it must be answered by; --days after it came by default
    days: int = DAYS  # days to answer in, where no --due is given
    note: str = ""  # anything worth keeping

    def run(self) -> None:
        """Enter the request and print its number and the day it is due."""
        ids = read_ids(self.ids) if self.ids else []
        said: Any = {"received": self.received, "due": self.due, "days": self.days, "note": self.note}
        request_entry(self.subject, ids, **said)  # what is wrong with it is told before there is a file
        ledger = Ledger(self.ledger, create=True)
        request = ledger.request(ledger.add(self.subject, ids, **said))
        print(f"request {request.number}, due {request.due}")
        if date.fromisoformat(request.due) > (month := a_month_after(date.fromisoformat(request.received))):
            notice(f"the month of GDPR article 12 (3) ends on {month}; due on {request.due} is later.")


@dataclass
class List:
    """Show all requests as they stand."""

    ledger: Place  # the ledger file
    status: Status | None = None  # only those with this status

    def run(self) -> None:
        """Print the requests as a table."""
        _table([r for r in Ledger(self.ledger).requests() if self.status in (None, r.status)])


@dataclass
class Attach:
    """Attach a run's record, an audit, a receipt or a status. A receipt that holds makes the request done."""

    ledger: Place  # the ledger file
    request: tyro.conf.Positional[int]  # the request's number
    record: Path | None = None  # the run's record (JSON)
    audit: Path | None = None  # record of the audit (JSON)
    receipt: Path | None = None  # the receipt (JSON); it is verified and kept whole
    ids: Path | None = None  # the request's ids again, one a line, to show that they were in the forget set
    secret: Path | None = None  # the receipt's secret, for that; looked for beside the receipt if left out
    key: str | None = None  # public key that must have signed the receipt: its .pub file or 64 hex digits
    status: Status | None = None  # say how the request stands, such as refused
    note: str = ""  # anything worth keeping

    def run(self) -> None:
        """Attach what was given and print how the request stands now."""
        needed = self.receipt is not None and self.ids is not None
        secret = secret_path(self.receipt or Path(), self.secret, needed)
        now = Ledger(self.ledger).attach(
            self.request,
            record=self.record,
            audit=self.audit,
            receipt=self.receipt,
            secret=secret,
            ids=read_ids(self.ids) if self.ids else [],
            public_key=self.key,
            status=self.status,
            note=self.note,
        )
        shown = f"; all {now.ids} ids shown to be in its forget set" if now.proved else ""
        print(f"request {now.number} is {now.status}{shown}")


@dataclass
class Overdue:
    """Show requests still to be answered whose day has passed. Exit code 1 if there are any."""

    ledger: Place  # the ledger file
    today: str = ""  # the day to judge by, as 2026-01-31; today (UTC) by default

    def run(self) -> None:
        """Print the requests that are late; exit code 1 if there are any."""
        found = Ledger(self.ledger).overdue(_day(self.today))
        _table(found)
        if found:
            raise SystemExit(1)


@dataclass
class CheckLedger:
    """Check that no row was changed, added or lost; exit code 1 if one was. Note its head somewhere else."""

    ledger: Place  # the ledger file, or its export (.json)
    head: str = ""  # a head that an earlier check printed (count:hash): was this ledger ever there?

    def run(self) -> None:
        """Print every check; exit code 1 if one failed."""
        noted = Head.of(self.head) if self.head else None
        exported = self.ledger.suffix == ".json"
        checks = check_export(self.ledger, noted) if exported else Ledger(self.ledger).check(noted)
        if not show_checks(checks):
            raise SystemExit(1)


@dataclass
class Export:
    """Write all rows as one JSON file, readable by you only."""

    ledger: Place  # the ledger file
    out: Place  # file to write; an existing one is not replaced

    def run(self) -> None:
        """Write the file and print its head."""
        ledger = Ledger(self.ledger)
        ledger.export(self.out)
        print(f"export: {self.out}, head {ledger.head()}")


_ACTIONS: dict[str, type] = {
    "add": Add,
    "list": List,
    "attach": Attach,
    "overdue": Overdue,
    "check": CheckLedger,
    "export": Export,
}
_Action: Any = Union[  # noqa: UP007
    tuple(
        Annotated[kind, tyro.conf.subcommand(name=name, prefix_name=False)] for name, kind in _ACTIONS.items()
    )
]


def ledger(action: tyro.conf.OmitArgPrefixes[_Action]) -> None:
    """Keep deletion requests and their receipts in one file that shows every later change."""
    action.run()


def _day(text: str) -> date | None:
    try:
        return date.fromisoformat(text) if text else None
    except ValueError:
        raise ExpungeError(f"today is {text!r}; write a day as 2026-01-31.") from None


def _table(requests: Sequence[Request]) -> None:
    today = datetime.now(UTC).date()
    table = Table(
        "no.",
        "subject",
        Column("due", no_wrap=True),
        "status",
        "ids",
        Column("receipt", no_wrap=True),
        "remarks",
    )
    for r in requests:
        status = f"{r.status}, overdue" if r.is_overdue(today) else r.status
        ids = f"{r.ids}, proved" if r.proved else str(r.ids or "")
        remarks = ". ".join(text for text in (r.verdict, r.note) if text)
        # what people wrote may hold brackets, which would be taken for markup
        table.add_row(str(r.number), escape(r.subject), r.due, status, ids, r.receipt[:11], escape(remarks))
    Console().print(table)


COMMANDS: dict[str, Callable[..., Any]] = {"ledger": ledger}
