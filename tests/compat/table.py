"""The compatibility table of docs/compatibility.md, from the families that the test covers.

python tests/compat/table.py --write
"""

from __future__ import annotations

import sys
from pathlib import Path

from families import FAMILIES

PAGE = Path(__file__).parents[2] / "docs" / "compatibility.md"
START, END = "<!-- made by tests/compat/table.py -->", "<!-- end of what tests/compat/table.py made -->"


def table() -> str:
    """Return the table: families of one library with the same flags share a row."""
    rows: dict[tuple[str, str, str], list[str]] = {}
    for family in FAMILIES:
        by_name = family.library in ("timm", "torchvision")
        model = f"{family.library}:NAME" if by_name else family.model
        rows.setdefault((family.library, model, family.checkpoint), []).append(family.name)
    lines = ["| library | families | `--model` | `--checkpoint` |", "| --- | --- | --- | --- |"]
    for (library, model, checkpoint), names in rows.items():
        shown = f"`{model}`" if ":" in model and " " not in model else model
        lines.append(f"| {library} | {', '.join(names)} | {shown} | {checkpoint} |")
    return "\n".join(lines)


def page(text: str) -> str:
    """Return the page with the table of today."""
    before, rest = text.split(START)
    count = f"{len(FAMILIES)} families."
    return f"{before}{START}\n\n{count}\n\n{table()}\n\n{END}{rest.split(END)[1]}"


if __name__ == "__main__":
    if sys.argv[1:] != ["--write"]:
        sys.exit("usage: python tests/compat/table.py --write")
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
