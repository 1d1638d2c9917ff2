"""What later audits say of the requests of a ledger: drift, and requests that came back."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..records.record import Record, plain
from .canonical import decimals
from .issue import record_hash
from .limits import visible

# Entries of details["earlier_requests"] that the ledger keeps.
_KEPT = ("receipt", "record", "samples", "UA", "MIA", "UA_change", "MIA_change", "came_back")


@dataclass(frozen=True)
class Drift:
    """Hold what the latest audit of a later model says of a request.

    Args:
        UA: UA on its samples, in percent.
        MIA: MIA on its samples, in percent.
        UA_change: Change of UA since the audit of the request, in points. None if there was none.
        MIA_change: Change of MIA.
        came_back: True if the later model recognises its samples again.
        request: Number of the request that the audit was attached to.
    """

    UA: float | None
    MIA: float | None
    UA_change: float | None
    MIA_change: float | None
    came_back: bool
    request: int

    def __str__(self) -> str:
        return f"UA {_shown(self.UA, self.UA_change)}, MIA {_shown(self.MIA, self.MIA_change)}"

    @classmethod
    def of(cls, entry: dict[str, Any], request: int) -> Drift:
        """Read an entry as a row stores it."""
        names = ("UA", "MIA", "UA_change", "MIA_change")
        numbers: Any = {name: _float(entry.get(name)) for name in names}
        return cls(**numbers, came_back=entry.get("came_back") is True, request=request)


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


def _float(value: Any) -> float | None:
    try:
        return None if value is None else float(value)
    except (TypeError, ValueError):
        return None


def _shown(value: float | None, change: float | None) -> str:
    if value is None:
        return "unknown"
    return f"{value:.1f}" if change is None else f"{value:.1f} ({change:+.1f})"
