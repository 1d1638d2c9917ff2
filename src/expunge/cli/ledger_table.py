"""The requests of a ledger as a table for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime

from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from ..receipts.deletion import CLOSED, Request
from ..receipts.limits import number, visible

HEAD = ("no.", "subject", "due", "status", "ids", "receipt", "remarks")
# Rows that are drawn as a table with lines. The library needs a millisecond for each.
DRAWN = 500


def print_requests(requests: Sequence[Request]) -> None:
    """Print requests, as a table with lines, or as plain columns if they are many."""
    today = datetime.now(UTC).date()
    rows = [_cells(request, today) for request in requests]
    if len(rows) > DRAWN:
        print("\n".join(_plain([HEAD, *rows])))
        return
    table = Table(*(Column(name, no_wrap=name in ("due", "receipt")) for name in HEAD))
    for row in rows:
        # brackets in what people wrote would be taken for markup
        table.add_row(*map(escape, row))
    Console().print(table)


def scores_text(request: Request) -> str:
    """Return UA and MIA of a closed request with the change since its own audit, from the latest audit."""
    if request.drift is not None:
        return str(request.drift)
    scores = {name: number(request.scores.get(name)) for name in ("UA", "MIA")}
    return ", ".join(f"{name} {value:.1f}" for name, value in scores.items() if value is not None)


def _cells(request: Request, today: date) -> tuple[str, ...]:
    missing = request.missing
    state = request.state_with(missing)
    status = f"{state}, overdue" if request.is_overdue(today, missing) else state
    ids = f"{request.ids}, proved" if request.proved else str(request.ids or "")
    scores = scores_text(request) if request.status in CLOSED else ""
    lacks = f"missing: {'; '.join(missing)}" if missing else ""
    remarks = ". ".join(text for text in (lacks, scores, request.verdict, request.note) if text)
    cells = (str(request.number), request.subject, request.due, status, ids, request.receipt[:11], remarks)
    return tuple(map(visible, cells))


def _plain(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return rows as lines with columns of equal width."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    line = "  ".join(f"{{:<{width}}}" for width in widths)
    return [line.format(*row).rstrip() for row in rows]
