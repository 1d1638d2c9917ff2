"""The ledger of a project: each request is entered, and gets record, audit and receipt of its run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ..receipts.deletion import request_entry
from ..receipts.ledger import Ledger
from ..sources.source import Source
from .requested import split_of
from .settings import Settings
from .state import ProjectRequest

FILE = "ledger.db"


def enter(
    folder: Path, requests: Sequence[ProjectRequest], source: Source, settings: Settings
) -> list[ProjectRequest]:
    """Enter requests in the ledger, and return them with their numbers in it.

    Raises:
        ExpungeError: A due day is wrong. Nothing is entered then.
    """
    ids = [split_of(r, source, settings.split).forget.ids for r in requests]
    days = settings.limits.days
    for request, names in zip(requests, ids, strict=True):
        request_entry(request.subject, names, "", request.due, days)
    ledger = Ledger(folder / FILE, create=True)
    entered = []
    for request, names in zip(requests, ids, strict=True):
        number = ledger.add(request.subject, names, due=request.due, days=days)
        entered.append(replace(request, ledger=number, due=ledger.request(number).due))
    return entered


def attach_results(
    folder: Path, requests: Sequence[ProjectRequest], source: Source, settings: Settings
) -> list[ProjectRequest]:
    """Attach the results of answered requests to their entries, and return the requests as attached."""
    ledger, attached = Ledger(folder / FILE), []
    for request in requests:
        files = folder / "models" / request.model
        if not ledger.request(request.ledger).receipt:
            ledger.attach(
                request.ledger,
                record=files.with_suffix(".json"),
                audit=files.with_suffix(".json"),
                receipt=files.with_suffix(".receipt.json"),
                secret=files.with_suffix(".secret.json"),
                ids=split_of(request, source, settings.split).forget.ids,
            )
        attached.append(replace(request, attached=True))
    return attached


def withdraw_unknown(folder: Path, requests: Sequence[ProjectRequest]) -> None:
    """Withdraw entries that a killed command left: the project does not know them."""
    path = folder / FILE
    if not path.exists():
        return
    ledger, known = Ledger(path), {r.ledger for r in requests}
    for entry in ledger.requests():
        if entry.number not in known and entry.status == "open":
            ledger.attach(
                entry.number,
                status="withdrawn",
                note="entered by a command that was killed; entered again since",
            )
