"""Make docs/formats.md: the schemas of files, from the classes and tables that read and write them."""

from __future__ import annotations

from dataclasses import MISSING, fields
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from expunge.cli.field_help import field_help
from expunge.projects.entries import Entries
from expunge.receipts.ledger_schema import ADDED, BASE
from expunge.records.record import SCHEMA, Record

HEADER = """# File formats

This page lists the entries of the files that Expunge reads and writes, for programs that use them. `python tools/docs_pages.py`
makes it from the code that checks these files.

```python
from expunge import Record

record = Record(kind="unlearn", method="salun", scores={"UA": 100.0})
record.save("run.json")
print(Record.load("run.json").scores["UA"])
```

| file | described in |
| --- | --- |
| record of a run, `NAME.json` | [below](#record) |
| project, `expunge.toml` | [below](#project) |
| ledger, `NAME.db` | [below](#ledger) |
| receipt, `NAME.receipt.json` | [Format of a receipt](receipts.md#format-of-a-receipt) |
| grid, `NAME.toml` | [Entries of a grid](grids.md#entries-of-a-grid) |
| checkpoint | [What the new file holds](data.md#what-the-new-file-holds) |
"""


def _type(hint: Any) -> str:
    """Return a type as text, the same in every version of Python."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return _type(arguments[0])
    if origin in (Union, UnionType):
        return " or ".join(map(_type, arguments))
    if origin is Literal:
        return " or ".join(f"`{a!r}`" for a in arguments)
    if hint is type(None):
        return "None"
    name = getattr(origin or hint, "__name__", str(hint))
    return f"{name}[{', '.join(map(_type, arguments))}]" if arguments else name


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*")


def record_table() -> str:
    """Return the entries of a record."""
    hints = get_type_hints(Record)
    lines = ["| entry | type | without it | meaning |", "| --- | --- | --- | --- |"]
    for f in fields(Record):
        default = "refused" if f.default is MISSING and f.default_factory is MISSING else "its default"
        lines.append(
            f"| `{f.name}` | {_type(hints[f.name])} | {default} | {_cell(field_help(Record, f.name))} |"
        )
    return "\n".join(lines)


def project_table() -> str:
    """Return the entries of `expunge.toml`."""
    lines = ["| entry | type | default | meaning |", "| --- | --- | --- | --- |"]
    for name, info in Entries.model_fields.items():
        default = (
            "*required*"
            if info.is_required()
            else ""
            if (v := info.get_default(call_default_factory=True)) is None
            else f"`{v!r}`"
        )
        lines.append(
            f"| `{name}` | {_type(info.annotation)} | {default} | {_cell(field_help(Entries, name))} |"
        )
    return "\n".join(lines)


def page() -> str:
    """Return the whole page."""
    tables = ";\n".join(" ".join(sql.split()) for sql in (*BASE, *ADDED))
    return (
        "\n\n".join(
            [
                HEADER.rstrip(),
                "## Record",
                f"One run as JSON, schema {SCHEMA}. Scores are in percent, times in seconds, memory in bytes. "
                "A value that does not exist is null.",
                record_table(),
                "## Project",
                "The entries of `expunge.toml`. Unknown entries are refused. [Projects](projects.md#settings) shows an example.",
                project_table(),
                "## Ledger",
                "A SQLite file. [How the ledger shows changes](receipts.md#how-the-ledger-shows-changes) explains the chain of hashes. "
                "A file with other tables, triggers or indexes is refused:",
                f"```sql\n{tables};\n```",
            ]
        )
        + "\n"
    )
