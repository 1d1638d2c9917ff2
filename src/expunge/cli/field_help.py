"""Find the help of a dataclass field.

The help stands in the `Args:` section of the class docstring, or of the nearest parent class that documents the field. Flags,
`expunge methods --verbose` and the docs table use it. A comment beside a field still counts where no class has an `Args:`
entry for it.
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

# comments for tools, not for people
_DIRECTIVES = ("noqa", "type:", "fmt:", "mypy:")


def field_help(settings_class: type, name: str) -> str:
    """Return what a field means; "" where neither the class nor a parent documents it.

    Args:
        settings_class: A dataclass.
        name: Name of the field.

    Example:
        >>> field_help(SalUn, "density")
        'Share of the parameters that may move ...'
    """
    for parent in settings_class.__mro__:
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
def _documented(settings_class: type) -> dict[str, str]:
    """Return {field: help} of the `Args:` section of the class's own docstring, each on one line."""
    parsed = parse(settings_class.__dict__.get("__doc__") or "", style=DocstringStyle.GOOGLE)
    return {p.arg_name: " ".join((p.description or "").split()) for p in parsed.params}


@cache
def _comments(settings_class: type) -> dict[str, str]:
    """Return {field: comment} of the fields that the class itself declares."""
    try:
        source = textwrap.dedent(inspect.getsource(settings_class))
    except (OSError, TypeError):
        # a class that was made without a file
        return {}
    comments, alone = _comment_lines(source)
    help_texts = {}
    for node in ast.parse(source).body[0].body:  # type: ignore[attr-defined]
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            lines = [n for n in range(node.lineno, (node.end_lineno or node.lineno) + 1) if n in comments]
            if not lines:
                first = node.lineno
                while first - 1 in alone:
                    first -= 1
                lines = list(range(first, node.lineno))
            help_texts[node.target.id] = " ".join(comments[n] for n in lines)
    return help_texts


def _comment_lines(source: str) -> tuple[dict[int, str], set[int]]:
    """Return {line: comment}, and the lines that hold nothing but a comment."""
    comments: dict[int, str] = {}
    alone: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        text = token.string.lstrip("#: ").strip()
        if token.type == tokenize.COMMENT and not text.startswith(_DIRECTIVES):
            comments[token.start[0]] = text.partition("  # ")[0]
            if token.line.lstrip().startswith("#"):
                alone.add(token.start[0])
    return comments, alone
