"""What later audits say of the requests of a ledger: drift, and requests that came back."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ..errors import raise_all
from ..records.record import Record, plain
from .canonical import decimals
from .drift import Drift
from .issue import record_hash
from .limits import visible

_REMEDY = "Give the record that `expunge unlearn` or `expunge audit` wrote."
# Entries of details["earlier_requests"] that the ledger keeps.
_KEPT = ("receipt", "record", "samples", "UA", "MIA", "UA_change", "MIA_change", "came_back")


def later_audits(paths: Iterable[str | os.PathLike[str]]) -> list[dict[str, Any]]:
    """Return what the records in some files say of earlier requests, one entry per different record that says something.

    Each result has "document" (hash of the record) and "entries", whose "request" is the hash of a split. `matched` replaces it.

    Raises:
        ExpungeError: An entry has wrong types or values. All are listed.
    """
    audits: dict[str, dict[str, Any]] = {}
    problems: list[str] = []
    for path in paths:
        entries = Record.load(Path(path)).details.get("earlier_requests")
        if entries is None:
            continue
        if not isinstance(entries, list):
            problems.append(f"{path}: earlier_requests is no list. {_REMEDY}")
            continue
        problems += [
            text
            for at, e in enumerate(entries, 1)
            for text in _entry_problems(f"{path}: earlier request {at}", e)
        ]
        if entries and not problems:
            kept = [
                {name: entry.get(name) for name in _KEPT}
                | {
                    "reason": visible(str(entry.get("reason") or "")),
                    "request": str(entry.get("request") or ""),
                }
                for entry in plain(entries)
            ]
            audits.setdefault(record_hash(path), {"document": record_hash(path), "entries": decimals(kept)})
    raise_all(list(dict.fromkeys(problems)))
    return list(audits.values())


def _entry_problems(where: str, entry: Any) -> list[str]:
    """Return what is wrong with what an audit says of one earlier request."""
    if not isinstance(entry, dict):
        return [f"{where} is no table. {_REMEDY}"]
    wrong = [name for name in ("receipt", "record") if not isinstance(entry.get(name) or "", str)]
    if not (entry.get("receipt") or entry.get("record") or entry.get("request")):
        wrong.append("receipt")
    wrong += [name for name in ("UA", "MIA") if not _is_number(entry.get(name), 0, 100)]
    wrong += [name for name in ("UA_change", "MIA_change") if not _is_number(entry.get(name), -100, 100)]
    if type(entry.get("came_back", False)) is not bool:
        wrong.append("came_back")
    return [f"{where} has a wrong {', '.join(wrong)}. {_REMEDY}"] if wrong else []


def _is_number(value: Any, low: float, high: float) -> bool:
    """Whether a value is a number between these, or None, which stands for one that was not measured."""
    return value is None or (type(value) in (int, float) and low <= value <= high)


def reopening(entry: dict[str, Any], receipt: str, by: int) -> dict[str, Any]:
    """Make the row that reopens a request because an audit attached to request `by` found that it came back."""
    drift = Drift.of(entry, by)
    reason = f": {entry['reason']}" if entry["reason"] else ""
    note = f"came back in the audit of request {by} ({drift}){reason}"
    return {"status": "open", "reopened": {"by": by, "receipt": receipt}, "note": note}
