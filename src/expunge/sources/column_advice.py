"""Which columns of a table can hold images, texts or labels, by their cells: what an error advises where a column is not known."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from .image_walk import IMAGE_SUFFIXES
from .labels import is_missing

# rows whose cells are looked at
LOOKED_AT = 1000
# columns of one kind that a message names
SHOWN_COLUMNS = 5


def fitting(rows: Sequence[Mapping[str, Any]], kind: str) -> list[str]:
    """Return the columns that can hold images, texts, labels or ids, the most likely first.

    - image: bytes, `{"bytes", "path"}`, or texts that end like the name of an image.
    - text: texts that are no such names. The longest come first.
    - label: texts or whole numbers with at least two values, of which each occurs twice on average. Those with the fewest come first.
    - id: texts or whole numbers without repeated values.

    Args:
        rows: The rows. The first 1,000 are looked at.
        kind: "image", "text", "label" or "id".

    Example:
        >>> rows = [{"who": f"u{k}", "stars": k % 2} for k in range(8)]
        >>> fitting(rows, "label"), fitting(rows, "id")
        (['stars'], ['who'])
    """
    looked = rows[:LOOKED_AT]
    columns = {
        name: [row.get(name) for row in looked] for name in dict.fromkeys(k for row in looked for k in row)
    }
    present = {name: [v for v in cells if not is_missing(v)] for name, cells in columns.items()}
    ranks = {name: _rank(cells, kind) for name, cells in present.items() if cells}
    return [name for _, name in sorted((rank, name) for name, rank in ranks.items() if rank is not None)]


def _rank(cells: list[Any], kind: str) -> float | None:
    """Smaller for more likely columns; None for a column that cannot hold this."""
    if kind == "image":
        return 0.0 if all(map(_is_image, cells)) else None
    if kind == "text":
        texts = all(isinstance(v, str) and not _is_image(v) for v in cells)
        return -sum(map(len, cells)) / len(cells) if texts else None
    if not all(isinstance(v, str | int) or (isinstance(v, float) and v.is_integer()) for v in cells):
        return None
    different = len(set(cells))
    if kind == "id":
        return 0.0 if different == len(cells) else None
    return float(different) if 2 <= different <= len(cells) / 2 else None


def _is_image(cell: Any) -> bool:
    if isinstance(cell, str):
        return os.path.splitext(cell)[1].lower() in IMAGE_SUFFIXES
    return isinstance(cell, bytes) or (isinstance(cell, Mapping) and {"bytes", "path"} <= set(cell))


def advised(rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str | None], what: Sequence[str]) -> str:
    """Return the options that name columns, such as "image=img&label=kind", and which other columns fit.

    Args:
        rows: The rows.
        columns: {"image", "text", "label" or "id": the column's name, or None where it is not known}.
        what: The entries of `columns` that need another column.
    """
    taken = [name for kind, name in columns.items() if kind not in what and name is not None]
    options, others = [], []
    for kind in columns:
        if kind not in what:
            # a column that a user named stays named
            options.append(f"{kind}={columns[kind]}")
            continue
        fit = [name for name in fitting(rows, kind) if name not in taken]
        options.append(f"{kind}={fit[0] if fit else 'COLUMN'}")
        taken += fit[:1]
        if fit[1:]:
            more = ", ".join(fit[1 : SHOWN_COLUMNS + 1])
            others.append(f"{kind} may also be {more}")
    return "&".join(options) + (f" ({'; '.join(others)})" if others else "")
