"""Find the help of a dataclass field.

The help stands in the `Args:` section of the class's docstring, or of the nearest parent that documents the field.
Flags, `expunge methods --verbose` and the docs table use it. A comment beside a field still counts where a class has no
`Args:` entry for it.
"""

from __future__ import annotations

import ast
import inspect
import io
import textwrap
import tokenize
from dataclasses import fields, is_dataclass
from functools import cache

from docstring_parser import DocstringStyle, parse

_DIRECTIVES = ("noqa", "type:", "fmt:", "mypy:")  # comments for tools, not for people


def field_help(kind: type, name: str) -> str:
    """Return what the field `name` of a dataclass means; "" where no class in its line of parents documents it."""
    for parent in kind.__mro__:
        if is_dataclass(parent):
            help_text = (
                _documented(parent).get(name)
                or {f.name: f.metadata.get("help", "") for f in fields(parent)}.get(name)
                or _comments(parent).get(name)
            )
            if help_text:
                return help_text
    return ""


@cache
def _documented(kind: type) -> dict[str, str]:
    """{field: help} of the `Args:` section of the class's own docstring, each on one line."""
    parsed = parse(kind.__dict__.get("__doc__") or "", style=DocstringStyle.GOOGLE)
    return {p.arg_name: " ".join((p.description or "").split()) for p in parsed.params}


@cache
def _comments(kind: type) -> dict[str, str]:
    """{field: comment} of what the class itself declares."""
    try:
        source = textwrap.dedent(inspect.getsource(kind))
    except (OSError, TypeError):  # made without a file
        return {}
    said: dict[int, str] = {}  # line -> its comment
    alone: set[int] = set()  # lines that hold nothing else
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        text = token.string.lstrip("#: ").strip()
        if token.type == tokenize.COMMENT and not text.startswith(_DIRECTIVES):
            said[token.start[0]] = text.partition("  # ")[0]
            if token.line.lstrip().startswith("#"):
                alone.add(token.start[0])
    found = {}
    for node in ast.parse(source).body[0].body:  # type: ignore[attr-defined]
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            lines = [n for n in range(node.lineno, (node.end_lineno or node.lineno) + 1) if n in said]
            if not lines:
                top = node.lineno
                while top - 1 in alone:
                    top -= 1
                lines = list(range(top, node.lineno))
            found[node.target.id] = " ".join(said[n] for n in lines)
    return found
