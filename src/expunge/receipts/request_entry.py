"""Check a new deletion request, and make the entry that the ledger stores for it."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from datetime import date, timedelta
from typing import Any

from ..days import FIRST, LAST, is_day, read_day, utc_today
from ..errors import raise_all
from .deletion import DAYS, asked_hashes, ids_hash, nfc
from .limits import text_problems

# Days that a request may stay open.
LONGEST = 3650
# Days between today and a day from which a note asks whether it is right: two years.
FAR = 731


def request_entry(
    subject: str,
    ids: Sequence[str] = (),
    received: str = "",
    due: str = "",
    days: int = DAYS,
    note: str = "",
    classes: Sequence[str] = (),
    concept: str = "",
    project: bool = False,
) -> dict[str, Any]:
    """Make the entry that the ledger stores for a new request. The arguments are those of `Ledger.add`.

    Raises:
        ExpungeError: The request is not valid. All problems are listed.
    """
    problems = []
    if not subject.strip():
        problems.append("the subject is empty. Give a reference that you can trace to the person.")
    problems += text_problems({"subject": subject, "note": note})
    if len(nfc(ids)) < len(ids):
        problems.append("an id repeats. Give each id once.")
    if not all(name.strip() for name in classes):
        problems.append("the name of a class is empty. Give its name or number.")
    today = utc_today()
    received_day = _day("received", received, problems) or today
    # where the clock is ahead of UTC, the next day may have begun
    if received_day > today + timedelta(days=1):
        problems.append(
            f"received on {received_day} is after today ({today}, UTC). Give the day on which it came."
        )
        received_day = today
    if not 0 <= days <= LONGEST:
        problems.append(f"days is {days}; allowed are 0 to {LONGEST}. Give fewer days, or a due day.")
    due_day = _day("due", due, problems) or received_day + timedelta(days=min(max(0, days), LONGEST))
    if due_day < received_day:
        problems.append(f"due on {due_day} is before received on {received_day}. Give a later due day.")
    raise_all(problems)
    salt = secrets.token_hex(32)
    asks = asked_hashes(salt, classes, concept)
    return {
        **({"asks": asks} if asks else {}),
        **({"project": True} if project else {}),
        "subject": subject.strip(),
        "received": received_day.isoformat(),
        "due": due_day.isoformat(),
        "ids": len(ids),
        "ids_salt": salt,
        "note": note,
        "ids_hash": ids_hash(salt, ids) if ids else "",
    }


def day_notes(received: str, due: str) -> list[str]:
    """Return notes on the days (ISO) of a request that are more than `FAR` days from today (UTC)."""
    ago = (utc_today() - date.fromisoformat(received)).days
    days = (date.fromisoformat(due) - utc_today()).days
    notes = [f"received on {received} is {ago:,} days before today; is the year right?"] if ago > FAR else []
    return notes + ([f"due on {due} is {days:,} days from today; is the year right?"] if days > FAR else [])


def _day(name: str, text: str, problems: list[str]) -> date | None:
    """Read an ISO day. Returns None for an empty text, and for a wrong text or day, which goes to `problems`."""
    if text and not is_day(text):
        problems.append(f"{name} is {text!r}, which is not a day. Write a day as 2026-01-31.")
        return None
    day = read_day(text) if text else None
    if day and not FIRST <= day <= LAST:
        problems.append(f"{name} on {day} is not between {FIRST} and {LAST}. Give the right year.")
        return None
    return day
