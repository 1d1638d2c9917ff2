"""Check a ledger file or its export: the hash chain, the receipts, and the state that is stored for quick reading."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from ..errors import ExpungeError
from .canonical import canonical, parse
from .chain import check_events
from .deletion import Source
from .ledger_file import FORMAT, LedgerFile, read_events
from .ledger_rows import Event, LedgerHead, read_head
from .ledger_schema import schema_problems
from .ledger_state import STATE, VERIFIED, digest_problem, mark, set_mark, state_problem, stored_state
from .replay import replay
from .verify import Check


def check_file(
    ledger: LedgerFile, noted: LedgerHead | None = None, full: bool = False, remember: bool = True
) -> list[Check]:
    """Run the checks of `Ledger.check`."""
    try:
        integrity = ledger.integrity()
        with ledger.snapshot() as db:
            altered = schema_problems(db)
            events, head, stored = read_events(db), read_head(db), stored_state(db)
            verified = 0 if full else mark(db, VERIFIED).count
    except ExpungeError as error:
        return [Check("file", False, str(error))]
    checks = [
        Check.of("file", integrity == ["ok"], "SQLite finds no damage in the file", "; ".join(integrity)),
        Check.of("schema", not altered, "the file has its tables, triggers and indexes", "; ".join(altered)),
        *check_events(events, head, noted, verified),
        *_check_state(events if full else None, stored, ledger.path),
    ]
    if remember and all(check.ok for check in checks) and verified < head.count:
        _mark_verified(ledger, head)
    return checks


def _mark_verified(ledger: LedgerFile, head: LedgerHead) -> None:
    """Remember that all rows up to a head were checked. Files that are read-only or of earlier versions stay as they are."""
    with suppress(ExpungeError), ledger.transaction() as db:
        if mark(db, STATE).count:
            set_mark(db, VERIFIED, head)


def _check_state(
    events: Sequence[Event] | None, stored: tuple[list[tuple[str, str, str]], str] | None, path: Source
) -> list[Check]:
    """Check the stored state: with the rows, that it is theirs. A file of an earlier version has none."""
    if stored is None:
        return []
    problem, passed = (
        digest_problem(*stored),
        "the stored state is as it was written; --full compares it with all rows",
    )
    if events is not None and not problem:
        try:
            book = replay(events, path)
        except ExpungeError as error:
            return [Check("state", False, str(error))]
        problem, passed = state_problem(stored[0], book), f"{book.last} requests, stored as their rows say"
    return [Check("state", not problem, problem or passed)]


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
