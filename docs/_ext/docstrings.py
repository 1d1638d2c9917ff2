"""Read docstrings as they are written: plain text with `code`, lists and indented formulas, which also a terminal shows.

reStructuredText wants an empty line before a list and a mark before a formula, and takes |x| and * for markup. This adds them.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the tests of the functions need no Sphinx
    from sphinx.application import Sphinx

CODE = re.compile(r"(`[^`]*`)")
MARKUP = re.compile(r"([|*\\])|(?<=\w)(_)(?=\W|$)")
LIST_ITEM = re.compile(r"\s*(-|\d+\.) ")


def escaped(line: str) -> str:
    """Return a line whose characters outside `code` mean nothing to reStructuredText."""
    parts = CODE.split(line)
    return "".join(part if part.startswith("`") else MARKUP.sub(r"\\\1\2", part) for part in parts)


def as_rst(lines: list[str], *, formulas: bool) -> list[str]:
    """Return the lines of a docstring as reStructuredText.

    Args:
        lines: The docstring. `name` is code.
        formulas: Whether an indented paragraph is a formula, as in docstrings of modules. In others it belongs to a section.
    """
    result: list[str] = []
    for line in lines:
        before = result[-1] if result else ""
        if line.lstrip().startswith((">>>", "...", "::")) or (
            result and before.lstrip().startswith((">>>", "...")) and line.strip()
        ):
            result.append(line)
            continue
        indented = line.startswith("    ")
        if formulas and indented and not before.startswith("    "):
            inside = any(earlier == "::" for earlier in result[-2:])
            if not before.strip() and not inside and not LIST_ITEM.match(line):
                result += ["::", ""]
                result.append(line)
                continue
        if formulas and indented and "::" in result and _in_formula(result):
            result.append(line)
            continue
        starts_list = LIST_ITEM.match(line) and before.strip() and not LIST_ITEM.match(before)
        if starts_list and _indent(before) <= _indent(line):
            result.append("")
        result.append(escaped(line))
    return result


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def _in_formula(result: list[str]) -> bool:
    """Tell whether everything since the last mark is indented or empty."""
    last = len(result) - 1 - result[::-1].index("::")
    return all(not line.strip() or line.startswith("    ") for line in result[last + 1 :])


def _process(app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    lines[:] = as_rst(lines, formulas=what == "module")


def setup(app: Sphinx) -> dict[str, bool]:
    # before napoleon, which reads the sections
    app.connect("autodoc-process-docstring", _process, priority=400)
    return {"parallel_read_safe": True}
