"""What later audits say of the requests of a ledger: drift, and requests that came back."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ..records.record import Record, plain
from .canonical import decimals
from .drift import Drift
from .issue import record_hash
from .limits import visible

# Entries of details["earlier_requests"] that the ledger keeps.
_KEPT = ("receipt", "record", "samples", "UA", "MIA", "UA_change", "MIA_change", "came_back")


def later_audits(paths: Iterable[str | os.PathLike[str]]) -> list[dict[str, Any]]:
    """Return what the records in some files say of earlier requests, one entry per different record that says something.

    Each result has "document" (hash of the record) and "entries".
    """
    audits: dict[str, dict[str, Any]] = {}
    for path in paths:
        entries = Record.load(Path(path)).details.get("earlier_requests")
        if not isinstance(entries, list) or not entries:
            continue
        kept = [
            {name: entry.get(name) for name in _KEPT} | {"reason": visible(str(entry.get("reason") or ""))}
            for entry in plain(entries)
            if isinstance(entry, dict)
        ]
        audits.setdefault(record_hash(path), {"document": record_hash(path), "entries": decimals(kept)})
    return list(audits.values())


def reopening(entry: dict[str, Any], receipt: str, by: int) -> dict[str, Any]:
    """Make the row that reopens a request because an audit attached to request `by` found that it came back."""
    drift = Drift.of(entry, by)
    reason = f": {entry['reason']}" if entry["reason"] else ""
    note = f"came back in the audit of request {by} ({drift}){reason}"
    return {"status": "open", "reopened": {"by": by, "receipt": receipt}, "note": note}
