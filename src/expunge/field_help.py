"""The help of a dataclass field is the comment beside it, or the lines of comment above it, in the class that declares it or
in the nearest parent that says something. Flags, `expunge methods --verbose` and the docs table take it from here."""

from __future__ import annotations

import ast
import inspect
import io
import textwrap
import tokenize
from dataclasses import fields, is_dataclass
from functools import cache

_DIRECTIVES = ("noqa", "type:", "fmt:", "mypy:")  # comments for tools, not for people


def field_help(kind: type, name: str) -> str:
    """What the field `name` of a dataclass means; "" where no class of its line says so."""
    for at in kind.__mro__:
        if is_dataclass(at) and at is not object:
            told = {f.name: f.metadata.get("help", "") for f in fields(at)}.get(name) or _comments(at).get(
                name
            )
            if told:
                return told
    return ""


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
