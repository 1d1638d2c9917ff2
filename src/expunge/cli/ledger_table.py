"""The requests of a ledger, for a terminal."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Mapping, Sequence
from datetime import date

from ..days import utc_today
from ..receipts.deletion import CLOSED, Request
from ..receipts.limits import number, visible

HEAD = ("no.", "subject", "due", "status", "ids")
# How far the remarks stand to the right, below the line of their request.
INDENT = "     "
# Longest subject in the list. `expunge ledger show` has all of it.
SUBJECT = 22


def print_requests(requests: Sequence[Request], done_on: Mapping[int, str]) -> None:
    """Print each request as a line of columns, and its remarks below it, so that both fit into a narrow terminal.

    Args:
        requests: The requests.
        done_on: What `Ledger.done_on` returned.
    """
    today = utc_today()
    rows = [_cells(request, today, done_text(request, done_on)) for request in requests]
    lines = _plain([HEAD, *(cells for cells, _ in rows)])
    width = max(40, shutil.get_terminal_size().columns)
    print(lines[0])
    for line, (_, remarks) in zip(lines[1:], rows, strict=True):
        print(line)
        for text in remarks:
            print(textwrap.fill(text, width, initial_indent=INDENT, subsequent_indent=INDENT))


def done_text(request: Request, done_on: Mapping[int, str]) -> str:
    """Return on which day a request was done, and whether that was after its due day. Empty if it is not done."""
    day = done_on.get(request.number, "") if request.status == "done" else ""
    return f"done on {day}{', late' if day > request.due else ''}" if day else ""


def scores_text(request: Request) -> str:
    """Return UA and MIA of a closed request with the change since its own audit, from the latest audit."""
    if request.drift is not None:
        return str(request.drift)
    scores = {name: number(request.scores.get(name)) for name in ("UA", "MIA")}
    return ", ".join(f"{name} {value:.1f}" for name, value in scores.items() if value is not None)


def _cells(request: Request, today: date, done: str) -> tuple[tuple[str, ...], list[str]]:
    """Return the columns of a request, and its remarks."""
    missing = request.missing
    state = request.state_with(missing)
    status = f"{state}, overdue" if request.is_overdue(today, missing) else state
    ids = f"{request.ids}, proved" if request.proved else str(request.ids or "")
    scores = scores_text(request) if request.status in CLOSED else ""
    lacks = f"missing: {'; '.join(missing)}" if missing else ""
    verdict = f"verdict: {request.verdict}" if request.verdict else ""
    results = ", ".join(filter(None, (done, scores, verdict, request.receipt[:11])))
    remarks = [visible(text) for text in (lacks, results, request.note) if text]
    subject = visible(request.subject)
    shown = subject if len(subject) <= SUBJECT else f"{subject[: SUBJECT - 1]}…"
    return (str(request.number), shown, visible(request.due), visible(status), ids), remarks


def _plain(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return rows as lines with columns of equal width."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    line = "  ".join(f"{{:<{width}}}" for width in widths)
    return [line.format(*row).rstrip() for row in rows]
