"""The pieces of a change to a project: its copy of the ledger, new requests, and what is written at the end."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from ..data.id_forms import composed
from ..data.past_requests import requests_of
from ..data.split import Split
from ..receipts.ledger import Ledger
from ..receipts.ledger_rows import read_head
from ..receipts.request_entry import day_notes
from .earlier import take_over
from .folder import LEDGER, Folder
from .ledger_limits import read_states, write_limits
from .moves import unchanged_ledger
from .prepared import Prepared, Say, check_new_requests, draw_new, drawn_entry
from .requests import NOT_PROVED, ProjectRequest, receipts_of
from .same_subject import note_same_subjects
from .wanted import NO_SUBJECT, Wanted


def ledger_copy(folder: Folder, work: Path, prepared: Prepared, say: Say) -> Ledger:
    """Return a copy of the ledger in the hidden folder of a change, with the limits of `expunge.toml`.

    `prepared` notes the head that was copied.
    """
    kept, copied = folder.path / LEDGER, work / LEDGER
    if kept.exists():
        with Ledger(kept).snapshot() as db:
            # the first query begins the snapshot: no other process writes into the file while it is copied
            prepared.ledger_head = str(read_head(db))
            shutil.copy(kept, copied)
    ledger = Ledger(copied, create=not kept.exists())
    write_limits(ledger, prepared.settings, say)
    prepared.in_ledger = read_states(ledger, prepared.requests, own_receipts(prepared))
    take_over(prepared.state, prepared.requests, requests_of(prepared.model), ledger, say)
    return ledger


def enter(
    prepared: Prepared, ledger: Ledger, new: Sequence[Wanted], say: Say
) -> tuple[list[ProjectRequest], list[Split]]:
    """Enter new requests in state and ledger, and return them with their splits. They are drawn first, so a wrong one is refused."""
    note_same_subjects([*prepared.requests, *prepared.in_ledger], new, say)
    splits = draw_new(prepared, new)
    check_new_requests(prepared, new, splits)
    for request, split in zip(new, splits, strict=True):
        # the form in which the ledger keeps it
        subject = composed(request.subject) or NO_SUBJECT
        number = ledger.add(
            subject,
            split.forget.ids,
            received=request.received,
            due=request.due,
            days=prepared.settings.days,
            project=True,
        )
        entry = ledger.request(number)
        for note in day_notes(entry.received, entry.due):
            say(f"request {number}: {note}")
        prepared.requests.append(ProjectRequest.new(number, entry.due, request, subject, split))
    return prepared.requests[len(prepared.requests) - len(new) :], splits


def own_receipts(prepared: Prepared) -> dict[str, set[str]]:
    """Return what `receipts_of` returns, of all runs so far."""
    return receipts_of(prepared.state, requests_of(prepared.model))


def not_proved(ledger: Ledger, prepared: Prepared, requests: Sequence[ProjectRequest]) -> list[str]:
    """Return what the ledger lacks to call requests proved, one sentence for each request.

    Also lets every request of the project have its state in the ledger.
    """
    read_states(ledger, prepared.requests, own_receipts(prepared))
    return [
        f"request {r.number} is done, and not proved. Missing: {'; '.join(r.missing)}."
        for r in requests
        if r.ledger_state == NOT_PROVED
    ]


def commit(folder: Folder, prepared: Prepared, work: Path, ledger: Ledger) -> None:
    """Make the files in `work`, the models and the requests those of the project.

    Raises:
        ExpungeError: The ledger got rows from outside since it was copied. Nothing is changed.
    """
    state = {
        **prepared.state,
        "requests": [request.to_dict() for request in prepared.requests],
        "ledger": str(ledger.head()),
        "drawn": drawn_entry(prepared, work),
    }
    with unchanged_ledger(folder.path / LEDGER, prepared.ledger_head):
        folder.commit(work, state)
