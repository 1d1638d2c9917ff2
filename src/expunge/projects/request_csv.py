"""Requests in a CSV file: a column of ids, and who asked, and by when each must be answered."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from ..data.id_problems import SHOWN_IDS, WithIds, ids_of
from ..days import REMEDY, is_day
from ..errors import ExpungeError, raise_all
from ..receipts.limits import LONGEST
from ..sources.tables import first_problems, read_csv_rows
from ..summaries import short
from .wanted import Wanted

# columns that may stand beside the ids
OPTIONAL = ("subject", "due", "received")


def read_csv(
    path: Path | str,
    column: str = "id",
    *,
    goal: Literal["untrain", "unlearn"] | None = None,
    subject: str = "",
    due: str = "",
    received: str = "",
) -> list[Wanted]:
    """Read requests from a CSV file with a header. Case and spaces around the names in the header do not count.

    Args:
        path: The file. Rows with the same subject, due day and received day are one request.
        column: Column of the ids. The columns "subject", "due" and "received" may stand beside it, and no other.
        goal: Goal of all requests.
        subject: Subject of rows without one.
        due: Due day of rows without one.
        received: Received day of rows without one.

    Returns:
        The requests, in the order of their first rows. Ids are as they stand in the file, with spaces.

    Raises:
        ExpungeError: The file cannot be read, or a column, row or cell is wrong. Lists the first 20 problems with their
            lines.

    Example:
        >>> read_csv("requests.csv")  # doctest: +SKIP
        [Wanted(ids=('p1', 'p3'), ..., subject='case 1', due='2026-12-01', received='')]
    """
    path, id_column = Path(path), _name(column)
    problems: list[str] = []

    def header_of(cells: list[str]) -> list[str]:
        names = list(map(_name, cells))
        problems.extend(_header_problems(names, id_column))
        return names

    defaults = {"subject": subject, "due": due, "received": received}
    requests: dict[tuple[str, ...], list[tuple[int, str]]] = {}
    for line, row in read_csv_rows(path, header_of, problems):
        # without a column of ids, every row would be a problem of its own
        if id_column in row:
            problems += _row_problems(line, row, id_column)
            key = tuple(row.get(name, "").strip() or value for name, value in defaults.items())
            requests.setdefault(key, []).append((line, row[id_column]))
    raise_all(first_problems(path, problems))
    if not requests:
        raise ExpungeError(f"{path} names no id; give a header and one or more rows.")
    return [
        Wanted(
            ids=tuple(name for _, name in rows),
            lines=tuple(line for line, _ in rows),
            goal=goal,
            subject=s,
            due=d,
            received=r,
        )
        for (s, d, r), rows in requests.items()
    ]


def place_of(request: Wanted, train: WithIds) -> str:
    """Return where a CSV file has the wrong ids of a request: lines and subject. Empty if it came from no file.

    Args:
        request: The request, which cannot be drawn.
        train: The training data.
    """
    if not request.lines:
        return ""
    known, times = set(ids_of(train)), Counter(request.ids)
    rows = list(zip(request.ids, request.lines, strict=True))
    # an id that is neither unknown nor repeated is wrong for another reason, which may concern all of them
    wrong = [line for name, line in rows if name not in known or times[name] > 1] or list(request.lines)
    shown = ", ".join(map(str, wrong[:SHOWN_IDS])) + (
        f" and {len(wrong) - SHOWN_IDS:,} more" if len(wrong) > SHOWN_IDS else ""
    )
    subject = f" (subject {request.subject!r})" if request.subject else ""
    return f"line{'s' * (len(wrong) > 1)} {shown}{subject}: "


def _name(cell: str) -> str:
    return cell.strip().lower()


def _header_problems(names: list[str], id_column: str) -> list[str]:
    """Return which columns are missing or unknown, one sentence each."""
    allowed = (id_column, *OPTIONAL)
    shown = ", ".join(repr(name) for name in names)
    problems = [
        f"the header has the column '{name}', which has no meaning here; allowed are {', '.join(allowed)}. Remove it."
        for name in dict.fromkeys(names)
        if name not in allowed
    ]
    if id_column not in names:
        problems.append(
            f"the file has no column '{id_column}'; its columns: {shown}. Name the one with ids (--id-column)."
        )
    if id_column in OPTIONAL:
        problems.append(
            f"the column '{id_column}' cannot hold the ids; rename it, or name another one (--id-column)."
        )
    return problems


def _row_problems(line: int, row: Mapping[str, str], id_column: str) -> list[str]:
    """Return what is wrong with the cells of a row, one sentence each."""
    subject, most = len(row.get("subject", "").strip()), LONGEST["subject"]
    problems = [] if row[id_column].strip() else [f"line {line} has no id; give one, or remove the line."]
    if subject > most:
        problems.append(f"line {line}: the subject has {subject:,} characters; give at most {most}.")
    return problems + [
        f"line {line}: {name} is {short(row[name], 40)!r}; {REMEDY}."
        for name in ("due", "received")
        if row.get(name, "").strip() and not is_day(row[name].strip())
    ]
