"""The result table for a terminal."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from rich.markup import escape
from rich.table import Table

from ..receipts.limits import visible
from ..records.record import Record
from ..records.statistics import (
    HEADLINE,
    TABLE_2X2,
    extra_measures,
    grouped,
    request_state,
    row_order,
    run_requests,
    shown_word,
    stat,
    stat_text,
    worse_gap,
)

UNRELIABLE = "*: MIA and MIA_entropy contradict each other in its own audit, so MIA is unreliable"
FILE_NUMBERS = "numbers: the order in the request file of the model"
NOT_SHOWN = '"not shown": its own audit does not show that it is forgotten'


def by_method(records: Sequence[Record]) -> list[list[Record]]:
    """Records of one kind, method and settings together (the seeds of a row): original, Retrain, then by their gap.

    The gap of a class-wise run is the worse of its average gap and its feature gap.
    """
    groups = grouped(records, lambda r: repr((r.kind, r.method, sorted(r.settings.items(), key=str))))
    return sorted(groups, key=lambda g: row_order(g[0].kind, [worse_gap(r.scores) for r in g]))


def _gap(record: Record, name: str) -> float | None:
    return (record.scores.get("gap") or {}).get(name)


def result_table(records: Sequence[Record], title: str = "", width: int | None = None) -> Table:
    """Scores beside Retrain's: mean (and spread over seeds) of UA, RA, TA, MIA with the gap, avg. gap, RTE.

    Args:
        records: The records.
        title: The title of the table.
        width: The columns of the terminal. A table that is wider has gaps and spreads below the scores, and if it must be, no
            memory and no seconds. No number is cut.
    """
    several = {len(run_requests(r.details)) for r in records} - {0, 1}
    groups = by_method(records)
    seeds = max(map(len, groups), default=1)
    features = any(_gap(r, "features") is not None for r in records)
    names = ["method", *HEADLINE, "avg. gap", *(["feature gap"] if features else []), "RTE s", "MiB"]
    rows = [_row(group, ("avg", "features") if features else ("avg",)) for group in groups]
    widths: list[int | None] = [None] * len(names)
    padding = 1
    if width is not None and _width([names, *rows], len) > width:
        rows = [[cell.replace("±", " ±") for cell in row] for row in rows]
        widths, padding = _narrow([names, *rows], width)
    table = Table(
        title=escape(visible(title)) or None,
        caption="percent; the gap to Retrain in brackets, smaller is closer"
        + (f"; mean ± sample standard deviation over {seeds} seeds" if seeds > 1 else "")
        + (f"; UA and MIA are those of {several.pop()} requests together" if several else ""),
        padding=(0, padding),
    )
    for name, size in zip(names, widths, strict=False):
        first = name == "method"
        table.add_column(
            name, justify="left" if first else "right", width=size, no_wrap=first and size is None
        )
    for group, row in zip(groups, rows, strict=True):
        table.add_row(*row[: len(widths)], style="bold" if group[0].kind == "retrain" else "")
    return table


def _row(group: Sequence[Record], gaps: Sequence[str]) -> list[str]:
    """Return the cells of a method: its name, the headline scores, these gaps, seconds and memory."""
    first = group[0]
    memory = [r.peak_memory for r in group if r.peak_memory]
    return [
        _name(first) + _note(group),
        *(_cell([r.scores.get(k) for r in group], [_gap(r, k) for r in group]) for k in HEADLINE),
        *("–" if first.kind == "retrain" else stat_text(_gap(r, k) for r in group) for k in gaps),
        # a model that was only looked at has no seconds
        "–" if first.kind == "original" else stat_text(r.seconds or None for r in group),
        f"{max(memory) / 2**20:.0f}" if memory else "–",
    ]


def _width(rows: Sequence[Sequence[str]], size: Callable[[str], int], padding: int = 1) -> int:
    """Return the width of a table with its lines, if a cell is as wide as `size` says."""
    return sum(max(map(size, column)) + 2 * padding + 1 for column in zip(*rows, strict=True)) + 1


def _longest_word(text: str) -> int:
    return max(map(len, text.split()), default=0)


def _narrow(rows: Sequence[Sequence[str]], width: int) -> tuple[list[int | None], int]:
    """Return the widths of the columns that fit, each as wide as its longest word, and their padding. The last ones go first."""
    kept, padding = len(rows[0]), 1
    for kept, padding in ((len(rows[0]) - dropped, p) for dropped in range(3) for p in (1, 0)):
        spare = width - _width([row[:kept] for row in rows], _longest_word, padding)
        if spare >= 0:
            break
    words = [max(map(_longest_word, column)) for column in list(zip(*rows, strict=True))[:kept]]
    name = max(len(row[0]) for row in rows)
    return [min(name, words[0] + max(spare, 0)), *words[1:]], padding


def _note(group: Sequence[Record]) -> str:
    """Return what stands against a conclusion from the runs of a row, in brackets."""
    grounds = [r.details.get("grounds") or {} for r in group]
    if any(r.ended == "diverged" for r in group):
        return " (diverged)"
    if any(r.ended == "unchanged" or "unchanged" in g for r, g in zip(group, grounds, strict=True)):
        return " (unchanged)"
    if group[0].kind != "original" and any("reference" in g for g in grounds):
        return " (not comparable)" if group[0].kind == "retrain" else " (no conclusion)"
    if any("over_forgotten" in g for g in grounds):
        return " (over-forgotten)"
    return " (worse)" if any(r.ended == "worse" for r in group) else ""


def measures_table(records: Sequence[Record]) -> Table | None:
    """Return the extra measures, one column each: mean (and spread over seeds). None if no record has any."""
    names = extra_measures(r.details for r in records)
    if not names:
        return None
    table = Table(title="extra measures")
    table.add_column("method", no_wrap=True)
    for name in names:
        table.add_column(escape(visible(name)), justify="right")
    for group in by_method(records):
        table.add_row(_name(group[0]), *(stat_text((r.scores.get(name) for r in group), 3) for name in names))
    return table


def earlier_table(record: Record) -> Table | None:
    """Return the other requests that the model has answered: UA and MIA now, and their change. None without any."""
    details = record.details
    # in a project, a request that the run answers again has one number
    again = {e["number"] for e in run_requests(details)} if details.get("numbers") == "ledger" else set()
    entries = [e for e in details.get("earlier_requests") or [] if e["number"] not in again]
    if not entries:
        return None
    table = Table(
        title="other requests of this model",
        caption="percent; in brackets the change since the request's own audit"
        + ("" if record.details.get("numbers") == "ledger" else f"; {FILE_NUMBERS}")
        + (f"; {NOT_SHOWN}" if any(request_state(e) == "not shown" for e in entries) else "")
        + (f"; {UNRELIABLE}" if any(e.get("unreliable_mia") for e in entries) else ""),
    )
    table.add_column("request", no_wrap=True)
    for name in ("samples", "UA", "MIA", "Retrain UA", "state"):
        table.add_column(name, justify="right")
    for entry in entries:
        table.add_row(
            f"{entry['number']} ({escape(visible(entry['scenario']))})",
            f"{entry['samples']:,}",
            *(_changed(entry, name) for name in ("UA", "MIA")),
            _score(entry["UA_retrained"]),
            f"[bold]{state}[/bold]" if (state := request_state(entry)) == "came back" else state,
        )
    return table


def requests_table(record: Record) -> Table | None:
    """Return the requests of a run, each with its own scores before and after it. None for a run for one request."""
    entries = run_requests(record.details)
    if len(entries) < 2:
        return None
    table = Table(
        title="requests of this run, each with its own scores",
        caption='percent, before > after the run; "not shown": see the notes below'
        + ('; "declined": the run does not answer it' if any(e.get("reason") for e in entries) else "")
        + (f"; {UNRELIABLE}" if any(e.get("unreliable_mia") for e in entries) else ""),
    )
    table.add_column("request", no_wrap=True)
    for name in ("samples", "UA", "MIA", "Retrain UA", "forgetting"):
        table.add_column(name, justify="right")
    for entry in entries:
        table.add_row(
            f"{entry['number']} ({escape(visible(entry['scenario']))})",
            f"{entry['samples']:,}",
            *(
                " > ".join(_score(entry.get(k)) for k in (f"{n}_before", n))
                + ("*" if n == "MIA" and entry.get("unreliable_mia") is True else "")
                for n in ("UA", "MIA")
            ),
            _score(entry.get("UA_retrained")),
            shown_word(entry),
        )
    return table


def _score(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f}"


def _changed(entry: dict[str, Any], name: str) -> str:
    change = entry[f"{name}_change"]
    if entry[name] is None:
        return "–"
    mark = "*" if name == "MIA" and entry.get("unreliable_mia") is True else ""
    return f"{entry[name]:.1f}{mark}" + ("" if change is None else f" ({change:+z.1f})")


def _name(record: Record) -> str:
    if record.kind == "original" and record.details.get("answered"):
        # a model that has answered requests is not the one that was trained
        return "before this run"
    return escape(visible({"original": "Original", "retrain": "Retrain"}.get(record.kind, record.method)))


def table_2x2(rows: Sequence[dict[str, Any]]) -> Table:
    """The four cells NHLE x class weight masking: accuracies in percent."""
    table = Table(
        title="NHLE x class weight masking",
        caption="masking alone already forgets in name: judge NHLE on the unmasked rows",
    )
    for name in ("NHLE", "masking", *(head for _, head in TABLE_2X2.values())):
        table.add_column(name, justify="right")
    for row in rows:
        shown = [row[k] for k in TABLE_2X2]
        table.add_row(
            "on" if row["nhle"] else "off",
            "on" if row["masking"] else "off",
            *("–" if v is None else f"{v:.2f}" for v in shown),
        )
    return table


def _cell(values: Sequence[float | None], gaps: Sequence[float | None]) -> str:
    gap = stat(gaps)
    return stat_text(values) + (f" ({gap.mean:.2f})" if gap else "")
