"""Read tables as rows. A row whose cells do not fit the header is refused, with its line.

CSV and JSON lines are read with the standard library, so that they need no extra. Parquet needs pyarrow.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

from ..errors import ExpungeError, MissingExtra, raise_all
from .regular_files import check_inflated, check_regular
from .separators import other_separator
from .spec import TABLE_SUFFIXES

# problems that a message lists for one file
SHOWN_PROBLEMS = 20
# Python's limit of 131,072 characters per field is too low for long texts.
FIELD_LIMIT = 2**31 - 1
# characters of a cell that a message shows
SHOWN_CHARACTERS = 40

Row: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True)
class Table:
    """Rows of a file, and where each of them stands.

    Args:
        file: The file.
        rows: The rows, each as {column: value}.
        lines: The line of each row, from 1; empty for parquet, which has no lines.
        typed: Whether a cell has a type of its own. In CSV and TSV each cell is a text.
        names: What a message calls each row, instead of its line.
    """

    file: Path
    rows: list[Row]
    lines: Sequence[int]
    typed: bool
    names: Sequence[str] = ()

    def place(self, row: int) -> str:
        """Return where a row stands: "line 3", "row 3" in parquet, both from 1, or the name of the row."""
        if self.names:
            return f"sample {self.names[row]}"
        return f"line {self.lines[row]}" if self.lines else f"row {row + 1}"

    @cached_property
    def columns(self) -> list[str]:
        """The names of all columns, in alphabetical order."""
        return sorted({name for row in self.rows for name in row})


def read_table(file: Path) -> Table:
    """Read a table.

    Args:
        file: A CSV, TSV, JSON lines or parquet file.

    Raises:
        MissingExtra: The file is parquet, and pyarrow is not installed.
        ExpungeError: The file cannot be read, or cells do not fit the header. Lists the first 20 problems.
    """
    suffix = file.suffix.lower()
    if suffix not in TABLE_SUFFIXES:
        raise ExpungeError(f"{file} is none of {', '.join(TABLE_SUFFIXES)}; give a table in one of these.")
    check_regular(file)
    if suffix == ".parquet":
        return Table(file, _read_parquet(file), [], typed=True)
    text = _read_text(file)
    problems: list[str] = []
    read = _read_jsonl if suffix == ".jsonl" else _read_csv
    pairs = list(read(text, "\t" if suffix == ".tsv" else ",", problems))
    raise_all(first_problems(file, problems))
    return Table(file, [row for _, row in pairs], [line for line, _ in pairs], typed=suffix == ".jsonl")


def read_csv_rows(
    file: Path, header_of: Callable[[list[str]], list[str]], problems: list[str]
) -> list[tuple[int, Row]]:
    """Read the rows of a CSV file with any suffix.

    Args:
        file: The file.
        header_of: Returns the names of the columns from the cells of the header. It may add to `problems`.
        problems: Gets one sentence for each cell or row that does not fit the header.

    Returns:
        Line and row of each row that fits.

    Raises:
        ExpungeError: The file cannot be read.
    """
    check_regular(file)
    return list(_read_csv(_read_text(file), ",", problems, header_of))


def tables_of(files: Sequence[Path]) -> list[Table]:
    """Read tables. Raises `ExpungeError` that lists the problems of all files."""
    tables, problems = [], []
    for file in files:
        try:
            tables.append(read_table(file))
        except MissingExtra:
            raise
        except ExpungeError as error:
            problems += error.problems
    raise_all(problems)
    return tables


def _read_text(file: Path) -> str:
    try:
        raw = file.read_bytes()
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise ExpungeError(
            f"{file}: line {line} is no UTF-8 (byte 0x{raw[error.start]:02x}); save the table in UTF-8."
        ) from error
    except OSError as error:
        raise ExpungeError(
            f"{file} cannot be read: {error.strerror}; give a file that you may read."
        ) from error


def _read_csv(
    text: str, delimiter: str, problems: list[str], header_of: Callable[[list[str]], list[str]] = list
) -> Iterator[tuple[int, Row]]:
    """Yield line and row. A row with too many or too few cells would shift its values."""
    csv.field_size_limit(FIELD_LIMIT)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    # many programs write a TSV without quoting
    lines = io.StringIO(text, newline="").readlines() if delimiter == "\t" else []
    header: list[str] | None = None
    line = 1
    try:
        for cells in reader:
            # A quoted cell may have several lines. The row is named by its first.
            start, line = line, reader.line_num + 1
            if not cells:
                continue
            if header is None:
                if wrong := other_separator(cells, delimiter):
                    # each row would be a problem of its own
                    problems.append(wrong)
                    return
                header = header_of(cells)
                problems += [
                    f"the header names the column '{name}' more than once; rename one."
                    for name in sorted({n for n in header if header.count(n) > 1})
                ]
            elif len(cells) != len(header):
                problems.append(
                    f"line {start} has {len(cells)} cells, but the header has {len(header)} (last cell: "
                    f"'{cells[-1][:SHOWN_CHARACTERS]}'); put texts with separators in quotes."
                )
            elif _fits_unquoted(lines[start - 1 : line - 1], len(header)):
                problems.append(
                    f"lines {start} to {line - 1} are one row in quotes, but without quoting each of them is a row; if the file has no "
                    'quoting, write each " of a text twice and quotes around the text ("a ""b"" c"), or save the table as .jsonl.'
                )
            else:
                yield start, dict(zip(header, cells, strict=True))
    except csv.Error as error:
        problems.append(f"line {line} cannot be read: {error}; check the quotes there.")


def _fits_unquoted(lines: list[str], columns: int) -> bool:
    """Whether the lines that quotes join to one row of a TSV are a row each where quotes mean nothing."""
    return len(lines) > 1 and all(line.count("\t") + 1 == columns for line in lines)


def _read_jsonl(text: str, _: str, problems: list[str]) -> Iterator[tuple[int, Row]]:
    """Yield line and row of one JSON object per line."""
    for number, line in enumerate(io.StringIO(text, newline=""), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line, object_pairs_hook=_unique_names)
        except RecursionError:
            problems.append(f"line {number} is nested too deeply; write plain values.")
        except ValueError as error:
            # The longest message is that of a number with too many digits.
            problems.append(
                f"line {number} cannot be read: {str(error)[:100]}; write one JSON object per line."
            )
        else:
            if isinstance(row, dict):
                yield number, row
            else:
                problems.append(
                    f'line {number} is no object with names; write one JSON object per line: {{"text": ...}}.'
                )


def _unique_names(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    row = dict(pairs)
    if len(row) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(
            f"the name '{next(n for n in names if names.count(n) > 1)}' occurs twice in one object"
        )
    return row


def _read_parquet(file: Path) -> list[Row]:
    try:
        from pyarrow import parquet
    except ImportError as error:
        raise MissingExtra("reading parquet files", "images") from error
    try:
        with parquet.ParquetFile(file) as opened:
            names, about = opened.schema_arrow.names, opened.metadata
            inflated = sum(about.row_group(k).total_byte_size for k in range(about.num_row_groups))
            # A column of one repeated value takes no space in the file, but each row becomes a dict.
            check_inflated(file, max(inflated, about.num_rows * len(names)))
            twice = sorted({name for name in names if names.count(name) > 1})
            raise_all(
                [f"{file}: the header names the column '{n}' more than once; rename one." for n in twice]
            )
            return opened.read().to_pylist()
    except ExpungeError:
        raise
    # pyarrow raises many types of errors.
    except Exception as error:
        raise ExpungeError(
            f"{file} cannot be read as parquet: {type(error).__name__}: {str(error)[:200]}; write it again."
        ) from error


def first_problems(file: Path, problems: list[str]) -> list[str]:
    """Return the first problems of a file, each with the file's name, and the number of the others."""
    surplus = len(problems) - SHOWN_PROBLEMS
    listed = [f"{file}: {problem}" for problem in problems[:SHOWN_PROBLEMS]]
    return listed + [f"{file}: {surplus} more problems."] * (surplus > 0)
