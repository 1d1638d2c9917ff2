"""The pieces of a change to a project: its copy of the ledger, new requests, and what is written at the end."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from ..data.split import Split
from ..receipts.deletion import request_entry
from ..receipts.ledger import Ledger
from .folder import LEDGER, Folder
from .ledger_limits import read_states, write_limits
from .prepared import Prepared, Say, drawn_entry
from .requests import NOT_PROVED, ProjectRequest
from .wanted import NO_SUBJECT, Wanted


def ledger_copy(folder: Folder, work: Path, prepared: Prepared, say: Say) -> Ledger:
    """Return a copy of the ledger in the hidden folder of a change, with the limits of `expunge.toml`."""
    kept, copied = folder.path / LEDGER, work / LEDGER
    if kept.exists():
        shutil.copy(kept, copied)
    ledger = Ledger(copied, create=not kept.exists())
    write_limits(ledger, prepared.settings, say)
    read_states(ledger, prepared.requests)
    return ledger


def check_new_requests(prepared: Prepared, new: Sequence[Wanted], splits: Sequence[Split]) -> None:
    """Raise `ExpungeError` for days or subjects that the ledger would refuse."""
    for request, split in zip(new, splits, strict=True):
        request_entry(
            request.subject or NO_SUBJECT,
            split.forget.ids,
            request.received,
            request.due,
            prepared.settings.days,
        )


def enter(prepared: Prepared, ledger: Ledger, new: Sequence[Wanted]) -> list[Split]:
    """Enter new requests in state and ledger, and return their splits. They are drawn first, so a wrong one is refused."""
    splits = [prepared.setting.draw(request) for request in new]
    check_new_requests(prepared, new, splits)
    for request, split in zip(new, splits, strict=True):
        subject = request.subject or NO_SUBJECT
        number = ledger.add(
            subject,
            split.forget.ids,
            received=request.received,
            due=request.due,
            days=prepared.settings.days,
        )
        due = ledger.request(number).due
        prepared.requests.append(ProjectRequest.new(number, due, request, subject, split))
    return splits


def not_proved(ledger: Ledger, requests: Sequence[ProjectRequest]) -> list[str]:
    """Return what the ledger lacks to call requests proved, one sentence for each request."""
    read_states(ledger, requests)
    return [
        f"request {r.number} is done, and not proved. Missing: {'; '.join(r.missing)}."
        for r in requests
        if r.ledger_state == NOT_PROVED
    ]


def commit(folder: Folder, prepared: Prepared, work: Path, ledger: Ledger) -> None:
    """Make the files in `work`, the models and the requests those of the project."""
    state = {
        **prepared.state,
        "requests": [request.to_dict() for request in prepared.requests],
        "ledger": str(ledger.head()),
        "drawn": drawn_entry(prepared, work),
    }
    folder.commit(work, state)
