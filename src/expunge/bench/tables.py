"""Make the Markdown tables of the results page."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from ..records.record import ended_from_status
from ..records.statistics import (
    HEADLINE,
    TABLE_2X2,
    extra_measures,
    grouped,
    row_order,
    stat,
    stat_text,
    worse_gap,
)
from .results import Entry


def rows(entries: Iterable[Entry]) -> list[list[Entry]]:
    """Group entries by label, and sort the groups: original, Retrain, then by the worse of average and feature gap.

    Args:
        entries: Entries of one split. Entries with the same label differ in their seed.

    Returns:
        One list of entries for each label.
    """
    groups = grouped(entries, lambda e: e["label"])
    return sorted(
        groups, key=lambda group: row_order(group[0]["kind"], [worse_gap(e["scores"]) for e in group])
    )


def gap_of(entry: Entry, score: str = "avg") -> float | None:
    """Return the gap to Retrain of a score, or the average gap. None if there is no gap."""
    return (entry["scores"].get("gap") or {}).get(score)


def markdown(entries: Sequence[Entry]) -> str:
    """Make the table of one split: mean ± sample standard deviation over seeds, with the gap of each score in brackets.

    Extra measures have a column each. Splits of whole classes have a column for the feature gap, unless their results
    are from before it was measured.

    Args:
        entries: Entries of one split.

    Returns:
        The table in Markdown.
    """
    extra = extra_measures(e["details"] for e in entries)
    features = ["feature gap"] if any(gap_of(e, "features") is not None for e in entries) else []
    columns = ["method", *HEADLINE, "avg. gap", *features, *extra, "RTE s", "n"]
    lines = [f"| {' | '.join(columns)} |", "| --- " * len(columns) + "|"]
    for group in rows(entries):
        kind = group[0]["kind"]
        cells = []
        for name in HEADLINE:
            gap = stat(gap_of(e, name) for e in group) if kind == "unlearn" else None
            text = stat_text(e["scores"].get(name) for e in group)
            cells.append(text + (f" ({gap.mean:.2f})" if gap else ""))
        gaps = [
            "0" if kind == "retrain" else stat_text(gap_of(e, name) for e in group)
            for name in ("avg", *(["features"] if features else []))
        ]
        seconds = "–" if kind == "original" else stat_text((e["seconds"] for e in group), 1)
        # old results have no "ended", only the words of "status"
        diverged = sum((e.get("ended") or ended_from_status(e["status"])) == "diverged" for e in group)
        label = group[0]["label"] + (f" ({diverged} diverged)" if diverged else "")
        more = [stat_text((e["scores"].get(name) for e in group), 3) for name in extra]
        bold = [f"**{gap}**" for gap in gaps]
        lines.append(f"| {' | '.join([label, *cells, *bold, *more, seconds, str(len(group))])} |")
    return "\n".join(lines)


def two_by_two(entries: Sequence[Entry]) -> str:
    """Make the table of NHLE with and without class weight masking, mean over seeds.

    Args:
        entries: Entries of one split.

    Returns:
        The table in Markdown. Empty if no run has these accuracies.
    """
    tables = [e["details"]["table2x2"] for e in entries if e["details"].get("table2x2")]
    if not tables:
        return ""
    lines = [
        f"NHLE x class weight masking, accuracies in percent (n = {len(tables)}):\n",
        "| NHLE | masking | forget | retain | test, forgotten class | test, retained classes |",
        "| --- " * 6 + "|",
    ]
    for cells in zip(*tables, strict=True):
        marks = ["yes" if cells[0][k] else "no" for k in ("nhle", "masking")]
        lines.append("| " + " | ".join([*marks, *(stat_text(c[k] for c in cells) for k in TABLE_2X2)]) + " |")
    return "\n".join(lines) + "\n"


def published_tables(about: dict[str, Any], split: dict[str, Any]) -> str:
    """Make the tables that others published for the same split.

    Args:
        about: The "about" of a result. Its "published" holds the tables of the grid file.
        split: The split.

    Returns:
        The tables in Markdown. Empty if there are none.
    """
    text = []
    for table in about.get("published", []):
        if table["split"] == split:
            text += [f"{table['source']}\n", "| method | UA | RA | TA | MIA | avg. gap |", "| --- " * 6 + "|"]
            text += [
                f"| {name} | " + " | ".join(f"{v:.2f}" for v in figures) + " |"
                for name, *figures in table["rows"]
            ]
            text.append("")
    return "\n".join(text)
