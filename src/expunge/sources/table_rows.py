"""What tables of texts and lists of images share: checks of their cells, ids, groups and a held-out test set."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import ExpungeError, raise_all
from .column_advice import advised
from .labels import SHOWN_LABELS, as_name, ignored_labels, is_missing, label_warnings, plain, type_problems
from .source import held_out
from .tables import Row, Table, first_problems


@dataclass(frozen=True)
class Part:
    """The training or the test rows.

    Args:
        table: Number of their table.
        rows: Positions (n,) of the rows in the table.
    """

    table: int
    rows: np.ndarray


def row_parts(labels: Sequence[np.ndarray], classes: int) -> list[Part]:
    """Return training and test rows: those of two tables, or a fixed fifth of each class of one table is held out.

    Args:
        labels: Class numbers (N,) of each table.
        classes: Number of classes.
    """
    if len(labels) > 1:
        return [Part(k, np.arange(len(y))) for k, y in enumerate(labels)]
    in_test = held_out(labels[0], classes)
    return [Part(0, np.flatnonzero(in_test == test)) for test in (False, True)]


# what stands before the ids of test samples that training samples have too
TEST = "test/"


def ids_of_test(train: Sequence[str], test: Sequence[str]) -> list[str]:
    """Return the ids of test samples, all with `test/` before them if some of them are ids of other training samples.

    A folder of images names its test samples in the same way.
    """
    known = set(train)
    return [f"{TEST}{name}" for name in test] if known.intersection(test) else list(test)


def part_ids(
    tables: Sequence[Table], parts: Sequence[Part], column: str, content: str = ""
) -> list[list[str] | None]:
    """Return the ids of the training and the test rows. Without a column of ids, they are row numbers from 0.

    Ids of a test table that begin anew get `test/` before them: see `ids_of_test`. They stay if a row is the training row of that id, so
    that a split refuses it.

    Args:
        tables: The training table, and possibly the test table.
        parts: The training and the test rows.
        column: The column of the ids.
        content: The column by which two rows are the same sample; empty if no column shows it.
    """
    have_ids = [column in table.columns for table in tables]
    given = [[as_name(tables[p.table].rows[k].get(column)) for k in p.rows] for p in parts]
    row_numbers = [[str(k) for k in p.rows] for p in parts]
    # In a test file, equal row numbers are other rows than in the training file.
    of_test = row_numbers[1] if len(tables) == 1 else None
    if len(tables) > 1 and all(have_ids):
        rows = [{name: tables[p.table].rows[k].get(content) for name, k in zip(ids, p.rows, strict=True)}
                for p, ids in zip(parts, given, strict=True)]  # fmt: skip
        same = any(rows[0][name] == value for name, value in rows[1].items() if content and name in rows[0])
        given[1] = given[1] if same else ids_of_test(given[0], given[1])
    return [given[0] if have_ids[0] else row_numbers[0], given[1] if all(have_ids) else of_test]


def check_tables(
    tables: Sequence[Table], columns: Mapping[str, str], needs_id: bool, known: Sequence[str] = ()
) -> None:
    """Check the columns and cells of the training table and possibly the test table.

    Args:
        tables: The tables.
        columns: {"text" or "image", "label" and "id": the column's name}.
        needs_id: Whether there must be a column of ids.
        known: Names that are classes in any case.

    Raises:
        ExpungeError: Columns are missing, or cells cannot be used. Lists the problems of all tables.
    """
    label = columns["label"]
    classes = {as_name(row.get(label)) for table in tables for row in table.rows} | set(known)
    raise_all(
        [
            problem
            for table in tables
            for problem in table_problems(table, columns, needs_id, ignored_labels(classes) - set(known))
        ]
    )


def table_problems(
    table: Table, columns: Mapping[str, str], needs_id: bool, ignored: Collection[str] = ()
) -> list[str]:
    """Return one sentence per missing column, else per cell that is empty or of a wrong type.

    Args:
        table: The table.
        columns: {"text" or "image", "label" and "id": the column's name}.
        needs_id: Whether there must be a column of ids. If there is one, no id may be missing.
        ignored: Labels that stand for "no label".
    """
    if not table.rows:
        return [f"{table.file} has no rows; give samples with labels."]
    existing = table.columns
    needed = {k: v for k, v in columns.items() if k != "id" or needs_id or v in existing}
    if absent := [name for name in needed.values() if name not in existing]:
        what = [k for k, name in needed.items() if name in absent]
        remedy = f"name your columns: {advised(table.rows, needed, what)}"
        return [f"{table.file} has the columns {existing}, not '{name}'; {remedy}." for name in absent]
    problems = [
        f"{table.place(k)} has no {what} (column '{name}'); complete or remove it."
        for k, row in enumerate(table.rows)
        for what, name in needed.items()
        if is_missing(row.get(name))
    ]
    problems += [
        f"{table.place(k)} has the label {label} (column '{columns['label']}'), by which losses ignore a sample: it has no class; "
        f"remove the row, or give the class a name such as 'minus {label[1:]}'."
        for k, row in enumerate(table.rows)
        if (label := as_name(row.get(columns["label"]))) in ignored
    ]
    if table.typed:
        problems += type_problems(
            [row.get(columns["label"]) for row in table.rows], table.place, columns["label"]
        )
        problems += [
            f"{table.place(k)}: the {what} in '{name}' is {type(value).__name__} ({str(value)[:40]}); give a text."
            for what, name in needed.items()
            for k, row in enumerate(table.rows)
            if what in ("text", "image")
            and not is_missing(value := row.get(name))
            and not isinstance(value, str)
        ]
        problems += [
            f"{table.place(k)}: the id in '{columns['id']}' is {type(value).__name__}; give a text or a number."
            for k, row in enumerate(table.rows)
            if isinstance(value := row.get(columns["id"]), list | dict | bytes | bool)
        ]
    return first_problems(table.file, problems)


def check_same_labels(
    tables: Sequence[Table], labels: Sequence[Sequence[str]], known: Mapping[str, int] | None = None
) -> None:
    """Check that test labels occur in the training table, and warn of labels that are likely mistakes.

    Args:
        tables: The training table, and possibly the test table.
        labels: Labels (N,) of each table, as texts.
        known: All class names. Default: the training labels.

    Raises:
        ExpungeError: A table has labels that are no class.
    """
    classes = set(labels[0]) if known is None else set(known)
    for table, names in zip(tables, labels, strict=True):
        for sentence in label_warnings(names, table.place):
            warnings.warn(f"{table.file}: {sentence}", stacklevel=4)
        if unknown := sorted(set(names) - classes):
            alike = {plain(name): name for name in classes}
            likely = [f"'{n}' is like '{alike[plain(n)]}'" for n in unknown if plain(n) in alike]
            raise ExpungeError(
                f"{table.file} has the labels {unknown[:SHOWN_LABELS]} (first: {table.place(names.index(unknown[0]))}), which "
                f"{tables[0].file} does not have; add training samples of these classes"
                f"{', or write them alike: ' + ', '.join(likely[:SHOWN_LABELS]) if likely else ''}."
            )


def groups_of(rows: Sequence[Row], without: set[str]) -> dict[str, list[str]]:
    """Return the group columns (N,): all but `without`, and but those that hold lists, objects or bytes."""
    names = sorted({k for row in rows for k in row} - without)
    columns = {name: [row.get(name) for row in rows] for name in names}
    return {
        name: ["" if is_missing(v) else _group_value(v) for v in values]
        for name, values in columns.items()
        if not any(isinstance(v, list | dict | bytes) for v in values)
    }


def _group_value(value: Any) -> str:
    return value if isinstance(value, str) else as_name(value)
