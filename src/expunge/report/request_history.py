"""Earlier requests in the report: a table for one run, and heat maps of a sequence of runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..records.record import Record
from .number_text import fixed
from .values import number, table

# shades of a heat map, from 0 to 100 %
SHADES = 10


def _entries(record: Record) -> list[dict[str, Any]]:
    """Return the earlier requests that a record scores."""
    listed = record.details.get("earlier_requests")
    return [table(e) for e in listed if table(e)] if isinstance(listed, list) else []


def earlier_table(record: Record) -> dict[str, Any] | None:
    """Return the earlier requests of a run as a grid for the template. None without any."""
    rows = []
    for at, entry in enumerate(_entries(record), 1):
        samples = number(entry.get("samples"))
        scores = [
            "–"
            if (value := number(entry.get(name))) is None
            else f"{fixed(value)} ({fixed(number(entry.get(f'{name}_change')), sign=True)})"
            for name in ("UA", "MIA")
        ]
        state = "came back" if entry.get("came_back") is True else "still forgotten"
        state = "not audited: its samples are gone" if samples == 0 else state
        name = f"{entry.get('number', at)}: {entry.get('scenario', '')}"
        rows.append((name, [fixed(samples, 0), *scores, fixed(number(entry.get("UA_retrained"))), state]))
    titles = ["Samples", "UA (change)", "MIA (change)", "Retrain UA", "State"]
    return {"titles": titles, "rows": rows} if rows else None


def heat_maps(records: Sequence[Record]) -> list[dict[str, Any]]:
    """Return two heat maps of a sequence of requests: accuracy and MIA of each request after each run.

    A row is a run, a column a request. Records of one sequence have one earlier request more each. A sequence of one run has
    no heat map.
    """
    runs = [r for r in records if r.kind == "unlearn"]
    chain = sorted((r for r in runs if _entries(r)), key=lambda r: len(_entries(r)))
    if not chain:
        return []
    start = [
        r for r in runs if not _entries(r) and r.model.get("hash_after") == chain[0].model.get("hash_before")
    ]
    chain = [*start[:1], *chain]
    lengths = [len(_entries(r)) for r in chain]
    if len(chain) < 2 or lengths != sorted(set(lengths)):
        return []
    last = lengths[-1] + 1
    maps = []
    for title, name, flipped in (
        ("Accuracy on the samples of each request, %", "UA", True),
        ("Share of the samples that the attack calls non-member (MIA), %", "MIA", False),
    ):
        rows = []
        for record, count in zip(chain, lengths, strict=True):
            values = [number(e.get(name)) for e in _entries(record)] + [number(record.scores.get(name))]
            shown = [None if v is None else 100 - v if flipped else v for v in values]
            cells = [_cell(v) for v in shown] + [_cell(None, "")] * (last - len(shown))
            rows.append((f"after request {count + 1}", cells))
        maps.append({"title": title, "columns": [str(k + 1) for k in range(last)], "rows": rows})
    return maps


def _cell(value: float | None, missing: str = "–") -> dict[str, Any]:
    if value is None:
        return {"text": missing, "shade": None}
    return {"text": fixed(value), "shade": min(SHADES - 1, max(0, int(value / 100 * SHADES)))}
