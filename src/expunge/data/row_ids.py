"""Ids that are row positions: what the user may have meant instead, and the columns that hold the ids."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

# characters of the form of an id that a message shows
SHOWN_FORM = 60

NOTE = (
    "the data has no column of ids, so an id is the position of a row, from 0; if a column holds the ids, name it "
    "(id=COLUMN of the data source, `ids=` in Python)."
)


class OwnIds(tuple[str, ...]):
    """Ids that were read from the data. A user did not write them, so they mean nothing else."""


def by_row(data: Any) -> bool:
    """Whether the ids of a `Data` are positions of rows."""
    return data.ids is None or bool(getattr(data, "row_ids", False))


def id_columns(wanted: Collection[str], train: Any, test: Any) -> dict[str, bool]:
    """Find the group columns that hold all wanted ids.

    Args:
        wanted: The ids.
        train: Data with groups.
        test: Data that may hold some of them.

    Returns:
        {column: whether no two training samples have the same value}.
    """
    columns = {}
    groups: Mapping[str, np.ndarray] = getattr(train, "groups", {})
    for name, values in groups.items():
        texts = set(map(str, values))
        of_test = set(map(str, getattr(test, "groups", {}).get(name, ())))
        if wanted and not texts.isdisjoint(wanted) and texts | of_test >= set(wanted):
            columns[name] = len(texts) == len(values)
    return columns


def row_id_problems(positions: Mapping[str, list[int]], train: Any, test: Any) -> list[str]:
    """Return one sentence if ids that name rows are also the values of a column, and name other samples there.

    Args:
        positions: {wanted id: positions in the training data}.
        train: The training data.
        test: The test data.
    """
    if not by_row(train):
        return []
    for name, unique in id_columns(positions.keys(), train, test).items():
        values = train.groups[name]
        same = all(str(values[at[0]]) == wanted for wanted, at in positions.items())
        if unique and not same:
            return [
                f"the data has no column of ids, so the {len(positions)} given ids are positions of rows; but the column '{name}' "
                f"holds all of them too, on other rows. Give id={name} (in Python `ids=`) if they are its values; if they are "
                "positions, leave this column out of the data."
            ]
    return []


def id_hint(unknown: Collection[str], train: Any, test: Any) -> list[str]:
    """Return where unknown ids stand, and how ids look: letters as "a" and digits as "0", as an id may name a person."""
    held = id_columns(unknown, train, test)
    sentences = [f"the column '{name}' holds the unknown ids: give id={name}" for name in held if held[name]]
    sentences += [
        f"the column '{name}' holds the unknown ids for several samples each: give --forget-group {name}=VALUE"
        for name in held
        if not held[name] and not sentences
    ]
    if by_row(train):
        rows = "" if train.ids is not None else f" from 0 to {len(train) - 1}"
        remedy = "" if held else "; name the column of ids (id=COLUMN, `ids=` in Python)"
        return [*sentences, f"the data has no ids, so an id is a position{rows}{remedy}"]
    form = re.sub(r"[^\W\d_]", "a", re.sub(r"\d", "0", str(train.ids[0])))[:SHOWN_FORM]
    return [*sentences, f"the data has {len(train):,} ids of the form '{form}'"]
