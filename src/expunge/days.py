"""Read a day. Only one way to write it is accepted, so that one day never looks like two."""

from __future__ import annotations

import re
from calendar import monthrange
from datetime import UTC, date, datetime

# what a message asks for
REMEDY = "write a day as 2026-01-31"

# days of requests: others are mistakes of a keyboard or a program
FIRST, LAST = date(2000, 1, 1), date(2199, 12, 31)


def read_day(text: str) -> date:
    """Read a day in the form YYYY-MM-DD. `date.fromisoformat` also takes 20260131 and 2026-W05-6.

    Raises:
        ValueError: The text has another form, or there is no such day.

    Example:
        >>> read_day("2026-01-31").day
        31
    """
    if not re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", text):
        raise ValueError(f"{text!r} is no day; {REMEDY}")
    return date.fromisoformat(text)


def is_day(text: str) -> bool:
    """Return whether a text is a day in the form YYYY-MM-DD."""
    try:
        read_day(text)
    except ValueError:
        return False
    return True


def a_month_after(day: date) -> date:
    """Return the same day of the next month, or the last day of that month if it is shorter."""
    year, month = (day.year, day.month + 1) if day.month < 12 else (day.year + 1, 1)
    return date(year, month, min(day.day, monthrange(year, month)[1]))


def utc_today() -> date:
    """Return today (UTC), as the ledger counts days."""
    return datetime.now(UTC).date()
