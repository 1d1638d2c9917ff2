"""`expunge ledger`: deletion requests and their receipts, one function per action."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Parameter

from ..days import a_month_after, read_day, utc_today
from ..errors import ExpungeError
from ..receipts.deletion import DAYS, Status
from ..receipts.ledger import Ledger
from ..receipts.ledger_check import check_export
from ..receipts.ledger_rows import LedgerHead
from ..receipts.limits import visible
from ..receipts.request_entry import day_notes, request_entry
from .help_page import PARAMETERS
from .ledger_table import done_text, print_requests, scores_text
from .receipt_flags import secret_path
from .settings_flags import FLAT, with_help
from .shown_checks import show_checks
from .terminal import notice

TEXT = "Keep deletion requests and their receipts in one tamper-evident file."

ledger = App(name="ledger", help=TEXT, group_parameters=PARAMETERS)


@with_help
@dataclass(frozen=True, kw_only=True)
class Attachments:
    """What is attached to a request.

    Args:
        record: Record of the run (JSON).
        audit: Record of the audit (JSON).
        receipt: Receipt of the run (JSON). It is verified and kept whole.
        ids: Text file with the ids of the request, one a line, to show that they were in the forget set.
        secret: Secret of the receipt, needed with --ids. By default the one beside the receipt.
        key: Public key that must have signed the receipt: its .pub file or 64 hex digits.
        status: Set the status of the request, such as refused.
        note: Anything worth keeping.
    """

    record: Path | None = None
    audit: Path | None = None
    receipt: Path | None = None
    ids: Path | None = None
    secret: Path | None = None
    key: str | None = None
    status: Status | None = None
    note: str = ""


@ledger.command
def add(
    ledger: Path,
    subject: str,
    /,
    *,
    ids: Path | None = None,
    received: str = "",
    due: str = "",
    days: int = DAYS,
    note: str = "",
    classes: Annotated[tuple[str, ...], Parameter(name="--class")] = (),
    concept: str = "",
) -> None:
    """Enter a deletion request. The first one creates the file.

    Args:
        ledger: The ledger file.
        subject: A reference to the person. Do not use the name: entries cannot be deleted.
        ids: Text file with the sample ids, one a line. Only a salted hash of them is kept.
        received: Day the request came, as 2026-01-31. By default today (UTC).
        due: Day it must be answered by. By default --days after it came.
        days: Days to answer in, if --due is not given.
        note: Anything worth keeping.
        classes: Class to forget, by name or number. Repeat it for several. Only salted hashes are kept.
        concept: Concept to erase. Only a salted hash is kept.
    """
    from ..data.id_file import read_ids

    sample_ids = read_ids(ids, strip=True, pipe=True) if ids else []
    entry: Any = {"received": received, "due": due, "days": days, "note": note}
    entry |= {"classes": classes, "concept": concept}
    # raises for a wrong entry, before the file is created
    request_entry(subject, sample_ids, **entry)
    with _lock_of(ledger):
        file = Ledger(ledger, create=True)
        request = file.request(file.add(subject, sample_ids, **entry))
    print(f"request {request.number}, due {request.due}")
    month_end = a_month_after(date.fromisoformat(request.received))
    if date.fromisoformat(request.due) > month_end:
        notice(f"the month of GDPR article 12 (3) ends on {month_end}; due on {request.due} is later.")
    for text in day_notes(request.received, request.due):
        notice(text)


@ledger.command(name="list")
def list_requests(ledger: Path, /, *, status: Status | None = None) -> None:
    """List all requests.

    Args:
        ledger: The ledger file.
        status: List only requests with this status.
    """
    from ..projects.status import doubted

    file = Ledger(ledger)
    requests = doubted(ledger, file.requests())
    print_requests([r for r in requests if status in (None, r.status)], file.done_on())


@ledger.command
def attach(
    ledger: Path,
    request: int,
    /,
    *,
    attachments: Annotated[Attachments, FLAT] = Attachments(),
) -> int:
    """Attach a run's record, an audit, a receipt or a status to a request. Exit code 1 if an earlier request came back.

    A receipt that passes its checks makes the request done. What it lacks to be proved is listed.
    If an audit or a record says that earlier requests came back, they are reopened.

    Args:
        ledger: The ledger file.
        request: Number of the request.
        attachments: What is attached.
    """
    from ..data.id_file import read_ids
    from ..projects.ledger_limits import check_receipt

    needs_secret = attachments.receipt is not None and attachments.ids is not None
    with _lock_of(ledger):
        file = Ledger(ledger)
        if attachments.receipt is not None:
            check_receipt(ledger, request, attachments.receipt)
        state = file.attach(
            request,
            record=attachments.record,
            audit=attachments.audit,
            receipt=attachments.receipt,
            secret=secret_path(attachments.receipt or Path(), attachments.secret, needs_secret),
            ids=read_ids(attachments.ids, strip=True, pipe=True) if attachments.ids else [],
            public_key=attachments.key,
            status=attachments.status,
            note=attachments.note,
        )
    proved = f"; all {state.ids} ids shown to be in its forget set" if state.proved else ""
    print(f"request {state.number} is {visible(state.state)}{proved}")
    for text in state.missing:
        print(f"missing: {visible(text)}")
    for number in state.reopened:
        print(f"request {number} is reopened: {visible(file.request(number).note)}")
    for text in state.unknown_returns:
        notice(visible(text))
    return 1 if state.reopened or state.unknown_returns else 0


@ledger.command
def show(ledger: Path, request: int, /) -> None:
    """Show one request: its state, what it lacks, and what the latest audit says of its samples.

    Args:
        ledger: The ledger file.
        request: Number of the request.
    """
    from ..projects.status import doubted

    file = Ledger(ledger)
    (r,) = doubted(ledger, [file.request(request)])
    drift = f"{r.drift}, in the audit of request {r.drift.request}" if r.drift else ""
    values = {
        "subject": r.subject,
        "received": r.received,
        "due": r.due,
        "state": r.state,
        "answered": done_text(r, file.done_on()),
        "missing": "; ".join(r.missing),
        "ids": f"{r.ids}, proved" if r.proved else str(r.ids),
        "classes or concepts": f"{len(r.asks)}{', removed by the run' if r.covered else ''}"
        if r.asks
        else "",
        "method": r.method,
        "run": r.run,
        "model": r.model,
        "audit": r.audit,
        "verdict": r.verdict,
        "receipt": r.receipt,
        "signed by": r.signer,
        "now": scores_text(r),
        "latest audit": drift,
        "note": r.note,
    }
    print(f"request {r.number}")
    for name, value in values.items():
        if value:
            print(f"  {name}: {visible(str(value))}")


@ledger.command
def limits(
    ledger: Path,
    /,
    *,
    key: Sequence[str] | None = None,
    no_key: bool = False,
    max_gap: float | None = None,
    refused_verdict: Sequence[str] | None = None,
) -> None:
    """Show or set what a done request needs to be proved. A new limit applies to old requests too.

    Args:
        ledger: The ledger file.
        key: Public key (.pub file or 64 hex digits) that may sign receipts. Repeat it for several keys.
        no_key: Accept unsigned receipts.
        max_gap: Largest average gap to Retrain, in points.
        refused_verdict: Verdict word that is not accepted. Repeat it for several words.
    """
    if no_key and key:
        raise ExpungeError("--key and --no-key contradict each other. Give one of them.")
    file = Ledger(ledger)
    keys = [] if no_key else key
    if keys is not None or max_gap is not None or refused_verdict is not None:
        with _lock_of(ledger):
            file.set_limits(keys=keys, max_gap=max_gap, refused_words=refused_verdict)
    current = file.limits
    print(f"keys: {visible(', '.join(current.keys)) or 'none, receipts may be unsigned'}")
    print(f"largest average gap to Retrain: {current.max_gap:g} points")
    print(f"refused verdicts: {visible(', '.join(current.refused_words)) or 'none'}")


@ledger.command
def overdue(ledger: Path, /, *, today: str = "") -> int:
    """List requests past their day that are open, or done but not proved. Exit code 1 if there are any.

    Args:
        ledger: The ledger file.
        today: The day to compare with, as 2026-01-31. By default today (UTC).
    """
    from ..projects.status import doubted

    file, day = Ledger(ledger), _day(today) or utc_today()
    late = [r for r in doubted(ledger, file.requests()) if r.is_overdue(day)]
    late.sort(key=lambda r: (r.due, r.number))
    print_requests(late, file.done_on())
    return 1 if late else 0


@ledger.command
def check(ledger: Path, /, *, head: str = "", full: bool = False) -> int:
    """Check that no row was changed, added or lost. Exit code 1 if one was.

    Keep the head that this prints in another place: it shows later that nothing was cut off.
    Receipts that were verified when they were attached, or by an earlier check, are verified again only with --full.

    Args:
        ledger: The ledger file, or its export (.json).
        head: A head that an earlier check printed (count:hash). The check fails if the ledger never had it.
        full: Verify every receipt again, and compare the stored state of the requests with all rows.
    """
    noted = LedgerHead.of(head) if head else None
    checks = (
        check_export(ledger, noted)
        if ledger.suffix == ".json"
        else Ledger(ledger, any_schema=True).check(noted, full=full)
    )
    return 0 if show_checks(checks) else 1


@ledger.command
def export(ledger: Path, out: Path, /) -> None:
    """Write all rows as one JSON file, readable by you only.

    Args:
        ledger: The ledger file.
        out: File to write. An existing file is not replaced.
    """
    file = Ledger(ledger)
    file.export(out)
    print(f"export: {out}, head {file.head()}")


def _lock_of(ledger: Path) -> AbstractContextManager[None]:
    """Return the lock of the project that a ledger belongs to: a command that runs there would replace the file."""
    from ..projects.ledger_limits import ledger_lock

    return ledger_lock(ledger)


def _day(text: str) -> date | None:
    try:
        return read_day(text) if text else None
    except ValueError:
        raise ExpungeError(f"today is {text!r}; write a day as 2026-01-31.") from None
