"""Which requests of a ledger an audit means: one run may have answered several, and they share its receipt."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from ..records.record import Record
from .deletion import Source
from .replay import Book


def tags(names: Iterable[str], split: str) -> list[str]:
    """Return names of one request of a run: hashes (64 hex digits) of the id of its receipt or record, and of its split."""
    return sorted(hashlib.sha256(f"request {name} {split}".encode()).hexdigest() for name in names if name)


def part_split(audit: Source | None) -> str:
    """Return the hash of the split of the request that an audit of a part of a run names. Empty for other audits."""
    part = Record.load(Path(audit)).details.get("part") if audit is not None else None
    split = part.get("request") if isinstance(part, dict) else None
    return split if isinstance(split, str) else ""


def matched(
    book: Book, audits: Iterable[dict[str, Any]], known: Mapping[str, Collection[int]]
) -> list[dict[str, Any]]:
    """Return what audits say of earlier requests, with the numbers of the requests of the ledger as "of".

    An entry means the requests that `known` gives for it, or those whose own audit names the same split. Without these,
    it means all requests that its run answers, but only if the audit says nothing else of that run.

    Args:
        book: The state of the ledger.
        audits: What `later_audits` returned.
        known: {hash of the split of a request: numbers in the ledger}.
    """
    found = []
    for audit in audits:
        splits: dict[str, set[str]] = {}
        for at, entry in enumerate(audit["entries"]):
            for name in _names(entry):
                splits.setdefault(name, set()).add(entry["request"] or str(at))
        entries = []
        for entry in audit["entries"]:
            names, split = _names(entry), entry["request"]
            own = {"tags": tags(names, split)} if split else {}
            alone = all(len(splits[name]) == 1 for name in names)
            numbers = _numbers(book, entry, known.get(split, ()) if split else (), own.get("tags", ()), alone)
            kept = {name: value for name, value in entry.items() if name != "request"}
            entries.append({**kept, **own, "alone": alone, "of": numbers})
        found.append({**audit, "entries": entries})
    return found


def _numbers(
    book: Book, entry: dict[str, Any], known: Collection[int], own: Collection[str], alone: bool
) -> list[int]:
    """Return the numbers of the requests that an entry means. Empty if that is not certain."""
    if numbers := {n for n in known if book.request(n) is not None}:
        return sorted(numbers)
    if numbers := {n for tag in own for n in book.answered_by(tag)}:
        return sorted(numbers)
    if not alone:
        return []
    named = book.concerned(entry)
    # a request that another run answered since is meant only if no other one is
    now = [n for n in named if (r := book.request(n)) and {r.receipt, r.run} & _names(entry)]
    return now or named


def _names(entry: dict[str, Any]) -> set[str]:
    return {name for name in (entry.get("receipt"), entry.get("record")) if name}
