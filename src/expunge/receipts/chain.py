"""The hash chain of a ledger: each row carries the hash of the row before it.

`check_events` finds a row that was changed, added, replaced or lost.

Own code, because the file format is the point: a reader can check it with SHA-256 alone.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import ExpungeError
from .canonical import file_form, parse
from .ledger_rows import START, Event, LedgerHead
from .verify import Check, verify


def check_events(
    events: Sequence[Event], head: LedgerHead, noted: LedgerHead | None = None, verified: int = 0
) -> list[Check]:
    """Check that the rows are one unbroken chain, and that every receipt in them is valid.

    Args:
        events: The rows in order.
        head: The head that the ledger stores. The chain must end there.
        noted: A head that was noted elsewhere at an earlier time. The chain must contain it.
        verified: Number of rows whose receipts are known to be valid, as long as the chain is unbroken.
    """
    last = LedgerHead(events[-1].seq, events[-1].hash) if events else LedgerHead(0, "")
    checks = [
        _check_chain(events),
        Check.of(
            "head",
            bool(events) and last == head,
            f"the chain ends at {head}",
            f"the last row is {last}, but the stored head is {head}: rows were lost or added",
        ),
    ]
    if noted is not None:
        contains_noted = any((event.seq, event.hash) == (noted.count, noted.hash) for event in events)
        checks.append(
            Check.of(
                "noted head",
                contains_noted,
                f"row {noted.count} has the noted hash",
                f"row {noted.count} does not have the noted hash: this is another history",
            )
        )
    checks.append(_check_receipts(events, verified if checks[0].ok else 0))
    return checks


def _check_chain(events: Sequence[Event]) -> Check:
    problem = _first_break(events)
    if problem is None and not events:
        problem = "there are no rows"
    passed = f"{len(events)} rows, each follows from the one before"
    return Check.of("chain", problem is None, passed, problem or "")


def _first_break(events: Sequence[Event]) -> str | None:
    """Describe the first row that breaks the chain."""
    previous = START
    for number, event in enumerate(events, 1):
        try:
            intact = event.hash == event.computed()
        except ExpungeError:
            intact = False
        if event.seq != number:
            return f"row {number} is missing"
        if not intact:
            return f"row {number} was changed"
        if event.previous != previous:
            return f"row {number} does not follow the row before it: one of them was replaced"
        if (event.kind == "ledger") != (number == 1):
            return f"row {number} is of kind {event.kind!r}; only row 1 starts a ledger"
        previous = event.hash
    return None


def _check_receipts(events: Sequence[Event], verified: int) -> Check:
    """Check each receipt that a row behind row `verified` holds, without the files that belong to it."""
    count, problems = 0, []
    for event in events[verified:]:
        try:
            body = parse(event.body.encode())
            if event.kind == "attach" and "receipt" in body:
                count += 1
                failed = [check.message for check in verify(file_form(body["receipt"])) if not check.ok]
                problems += [f"row {event.seq}: {failed[0]}"] if failed else []
        except (ExpungeError, AttributeError, TypeError):
            problems.append(f"row {event.seq} cannot be read")
    return Check("receipts", not problems, "; ".join(problems) or _valid_receipts(events, count, verified))


def _valid_receipts(events: Sequence[Event], count: int, verified: int) -> str:
    """Return what was verified: `count` receipts behind row `verified`. The others were verified before."""
    known = sum(map(_has_receipt, events[:verified]))
    if not count + known:
        return "no request has a receipt yet, so there is none to verify"
    text = f"{count + known:,} receipt{'' if count + known == 1 else 's'}, all valid"
    return f"{text}; {known:,} verified before, and --full verifies them again" if known else text


def _has_receipt(event: Event) -> bool:
    # most rows have none, and parsing takes time
    if event.kind != "attach" or '"receipt":' not in event.body:
        return False
    try:
        return "receipt" in parse(event.body.encode())
    except ExpungeError:
        return False
