"""Name the separator of a table whose cells are separated by another one than expected."""

from __future__ import annotations

# separators of cells, by the names that messages give them
SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
# characters of a header that a message shows
SHOWN = 40


def other_separator(header: list[str], delimiter: str) -> str:
    """Return that a header is one cell because the file has another separator, as a sentence. Excel writes the one of the country."""
    mark = next((m for m in SEPARATORS if m != delimiter and m in header[0]), "") if len(header) == 1 else ""
    if not mark:
        return ""
    shown = "" if mark == "\t" else f" ({mark})"
    return (
        f"the cells are separated by {SEPARATORS[mark]}{shown}, and not by {SEPARATORS[delimiter]}: save the file with "
        f"{SEPARATORS[delimiter]} between the cells (the header is {header[0][:SHOWN]!r})."
    )
