"""The random name of a ledger, read without the machinery of a ledger."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

from ..errors import ExpungeError


def ledger_name(path: Path) -> str:
    """Return the random name (32 hex digits) that a ledger got when it was made.

    Raises:
        ExpungeError: The first row of the file cannot be read.
    """
    try:
        with closing(sqlite3.connect(path, timeout=60)) as db:
            row = db.execute("SELECT body FROM events WHERE seq = 1").fetchone()
        return str(json.loads(row[0])["ledger"])
    except (sqlite3.Error, TypeError, ValueError, KeyError) as error:
        raise ExpungeError(
            f"the first row of the ledger {path} cannot be read: {error}; restore the file from a backup."
        ) from error
