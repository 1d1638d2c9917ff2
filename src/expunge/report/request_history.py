"""Earlier requests in the report: a table for one run, and heat maps of a sequence of runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ..records.record import Record
from ..records.statistics import contradicted, request_state, run_requests, shown_word
from .number_text import fixed
from .values import number, table, texts

# shades of a heat map, from 0 to 100 %
SHADES = 10
# states of requests of earlier runs, beside "came back"
WORDS = {
    "not back": "not back",
    "not shown": "not shown: its own audit does not show that it is forgotten",
    "not audited": "not audited: its samples are gone",
}
UNRELIABLE = "* MIA and MIA_entropy contradict each other in the request’s own audit, so MIA is unreliable."
# requests that the title of a column lists
SHOWN = 4


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
            else f"{fixed(value)}{_mark(entry, name)} ({fixed(number(entry.get(f'{name}_change')), sign=True)})"
            for name in ("UA", "MIA")
        ]
        state = WORDS.get(request_state({**entry, "samples": samples}), "came back")
        name = f"{entry.get('number', at)}: {entry.get('scenario', '')}"
        rows.append((name, [fixed(samples, 0), *scores, fixed(number(entry.get("UA_retrained"))), state]))
    titles = ["Samples", "UA (change)", "MIA (change)", "Retrain UA", "State"]
    notes = _notes(_entries(record))
    if record.details.get("numbers") != "ledger":
        notes.append("Numbers: the order in the request file of the model.")
    return {"titles": titles, "rows": rows, "notes": notes} if rows else None


def own_table(record: Record) -> dict[str, Any] | None:
    """Return the requests of a run, each with its own scores, as a grid for the template. None for a run for one request."""
    entries = [table(entry) for entry in run_requests(record.details)]
    if len(entries) < 2:
        return None
    rows = []
    for entry in entries:
        scores = [
            " > ".join(fixed(number(entry.get(name))) for name in (f"{score}_before", score))
            + _mark(entry, score)
            for score in ("UA", "MIA")
        ]
        shown = shown_word(entry)
        reference = fixed(number(entry.get("UA_retrained")))
        words = ", ".join(texts(entry.get("verdict")))
        cells = [fixed(number(entry.get("samples")), 0), *scores, reference, shown, words]
        rows.append((f"{entry.get('number', '–')}: {entry.get('scenario', '')}", cells))
    titles = ["Samples", "UA (before > after)", "MIA (before > after)", "Retrain UA", "Forgetting", "Verdict"]
    return {"titles": titles, "rows": rows, "notes": _notes(entries)}


def warnings(record: Record) -> list[str]:
    """Return why a run does not answer requests, and why scores do not show that they are forgotten, a sentence for each."""
    sentences = []
    for entry in run_requests(record.details):
        name = f"request {entry.get('number', '–')}"
        if entry.get("reason"):
            sentences.append(f"The run does not answer {name}, which stays open: {entry['reason']}.")
        elif entry.get("warning"):
            sentences.append(f"{name.capitalize()}: {entry['warning']}")
    return sentences


def _own(record: Record) -> list[dict[str, Any]]:
    """Return the requests that a run answers, each with its own scores. Empty where the record does not list them."""
    listed = record.details.get("requests")
    return [table(e) for e in listed if table(e)] if isinstance(listed, list) else []


def _notes(entries: Sequence[dict[str, Any]]) -> list[str]:
    return [UNRELIABLE] if any(_mark(entry, "MIA") for entry in entries) else []


def _mark(entry: dict[str, Any], name: str) -> str:
    return "*" if name == "MIA" and entry.get("unreliable_mia") is True else ""


@dataclass
class _Row:
    """One request in a heat map: its number, its value after each run, whether MIA is unreliable, and what repeats it."""

    number: Any
    values: dict[int, float | None] = field(default_factory=dict)
    unreliable: bool = False
    repeated: list[str] = field(default_factory=list)


def heat_maps(records: Sequence[Record]) -> list[dict[str, Any]]:
    """Return two heat maps of a sequence of runs: accuracy and MIA of each request after each run.

    A row is a request, a column a run. Each run begins with the model of the run before it. A sequence of one run has no
    heat map. A run that answers several requests gives each of them its own scores.
    """
    chain = _chain([r for r in records if r.kind == "unlearn"])
    if len(chain) < 2:
        return []
    columns = [_title(record, at) for at, record in enumerate(chain, 1)]
    maps = []
    for title, name, flipped in (
        ("Accuracy on the samples of each request, %", "UA", True),
        ("Share of the samples that the attack calls non-member (MIA), %", "MIA", False),
    ):
        rows, found = [], _rows(chain, name)
        for row in found:
            mark = "*" if row.unreliable and name == "MIA" else ""
            values = [row.values.get(at) for at in range(len(chain))]
            first = min(row.values)
            cells = [
                _cell(None if v is None else 100 - v if flipped else v, "" if at < first else "–")
                for at, v in enumerate(values)
            ]
            rows.append((f"request {row.number}{mark}", cells))
        notes = [
            f"{'Requests' if len(row.repeated) > 1 else 'Request'} {', '.join(row.repeated)}: see request {row.number}."
            for row in found
            if row.repeated
        ]
        notes += [UNRELIABLE] if name == "MIA" and any(row.unreliable for row in found) else []
        maps.append({"title": title, "columns": columns, "rows": rows, "notes": notes})
    return maps


def _chain(runs: Sequence[Record]) -> list[Record]:
    """Return the longest row of runs of which each begins with the model of the one before. Empty if it branches."""
    by_result = {str(r.model.get("hash_after")): r for r in runs}
    starts = [str(r.model.get("hash_before")) for r in runs]
    if len(by_result) < len(runs) or len(set(starts)) < len(starts):
        # seeds or methods of one request
        return []
    chains = []
    for last in runs:
        chain = [last]
        while (before := by_result.get(str(chain[0].model.get("hash_before")))) and before not in chain:
            chain.insert(0, before)
        chains.append(chain)
    return max(chains, key=len, default=[])


def _rows(chain: Sequence[Record], name: str) -> list[_Row]:
    """Return the requests of a sequence in the order of their numbers, with a score after each run."""
    rows: dict[str, _Row] = {}
    # the record of a first request does not name its hash
    hashes = {str(e.get("number")): e.get("request") for e in _entries(chain[-1])}
    for at, record in enumerate(chain):
        for entry in [*_entries(record), *_answered(record)]:
            at_number = str(entry.get("number"))
            key = str(entry.get("request") or hashes.get(at_number) or at_number)
            row = rows.setdefault(key, _Row(entry.get("number")))
            row.values[at] = number(entry.get(name))
            row.unreliable |= entry.get("unreliable_mia") is True
            row.repeated = texts(entry.get("repeated")) or row.repeated
    return sorted(rows.values(), key=lambda row: number(row.number) or 0)


def _answered(record: Record) -> list[dict[str, Any]]:
    """Return the requests that a run answers. A record that lists none is that of one request."""
    one = {"number": len(_entries(record)) + 1, "request": record.split.get("request"), **record.scores}
    scores = {name: number(record.scores.get(name)) for name in ("MIA", "MIA_entropy")}
    one["unreliable_mia"] = contradicted(scores)
    return _own(record) or [one]


def _title(record: Record, at: int) -> str:
    """Return the title of a run's column: the requests that it answers."""
    numbers = [str(e.get("number", "–")) for e in _answered(record)]
    shown = ", ".join(numbers) if len(numbers) <= SHOWN else f"{numbers[0]} to {numbers[-1]}"
    return f"run {at} (request{'s' if len(numbers) > 1 else ''} {shown})"


def _cell(value: float | None, missing: str = "–") -> dict[str, Any]:
    if value is None:
        return {"text": missing, "shade": None}
    return {"text": fixed(value), "shade": min(SHADES - 1, max(0, int(value / 100 * SHADES)))}
