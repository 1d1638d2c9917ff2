"""Read tables as rows. A row whose cells do not fit the header is refused.

CSV and JSON lines are read with the standard library, so that they need no extra. Parquet needs pyarrow.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO, TypeAlias

from ..errors import ExpungeError, MissingExtra, raise_all
from .spec import TABLE_SUFFIXES

# broken rows that a message lists
SHOWN_ROWS = 20
# Python's limit of 131,072 characters per field is too low for long texts.
FIELD_LIMIT = 2**31 - 1

Row: TypeAlias = Mapping[str, Any]


def read_rows(file: Path) -> list[Row]:
    """Read a table.

    Args:
        file: A CSV, TSV, JSON lines or parquet file.

    Returns:
        The rows, each as {column: value}.

    Raises:
        MissingExtra: The file is parquet, and pyarrow is not installed.
        ExpungeError: The file cannot be read, or cells do not fit the header.
    """
    if file.suffix not in TABLE_SUFFIXES:
        raise ExpungeError(
            f"{file} is none of {', '.join(TABLE_SUFFIXES)}; give the texts in a file of one of these."
        )
    try:
        if file.suffix == ".parquet":
            return _read_parquet(file)
        with file.open(encoding="utf-8-sig", newline="") as lines:
            if file.suffix == ".jsonl":
                rows = [json.loads(line) for line in lines if line.strip()]
            else:
                rows = _read_csv(file, lines)
    except ExpungeError:
        raise
    except (OSError, ValueError, RecursionError, csv.Error) as error:
        raise ExpungeError(
            f"{file} cannot be read: {type(error).__name__}: {error}; give a table in UTF-8."
        ) from error
    if not_objects := [n for n, row in enumerate(rows, 1) if not isinstance(row, dict)]:
        raise ExpungeError(
            f"{file}: entry {not_objects[0]} is no object with names; write one JSON object per line."
        )
    return rows


def _read_csv(file: Path, lines: TextIO) -> list[Row]:
    """The rows of a table in CSV or TSV. A row with too many or too few cells would shift its values."""
    csv.field_size_limit(FIELD_LIMIT)
    reader = csv.DictReader(lines, delimiter="\t" if file.suffix == ".tsv" else ",", strict=True)
    rows, names = list(reader), list(reader.fieldnames or [])
    cells = [len(names) + len(row.get(None, [])) - list(row.values()).count(None) for row in rows]
    twice = sorted({name for name in names if names.count(name) > 1})
    problems = [f"{file}: the header names the column '{name}' more than once; rename one." for name in twice]
    problems += [
        f"{file}: row {number} has {count} cells, but the header has {len(names)}; put texts with separators in quotes."
        for number, count in enumerate(cells, 1)
        if count != len(names)
    ]
    raise_all(first_problems(file, problems))
    return [*rows]


def _read_parquet(file: Path) -> list[Row]:
    try:
        from pyarrow import parquet
    except ImportError as error:
        raise MissingExtra("reading parquet files", "images") from error
    return parquet.read_table(file).to_pylist()


def first_problems(file: Path, problems: list[str]) -> list[str]:
    """Return the first problems of a file, and the number of the others."""
    surplus = len(problems) - SHOWN_ROWS
    return problems[:SHOWN_ROWS] + [f"{file}: {surplus} more problems of this type."] * (surplus > 0)
