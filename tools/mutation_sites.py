"""Small changes of source code, one at a time: what `tools/mutants.py` applies.

A `Site` is one change of one line. The operators are those that wiring faults look like: a keyword argument that is not passed on,
two positional arguments that change places, a condition turned round, a sign, a comparison, a number, a call that is left out.
Texts, errors, annotations and docstrings are left alone: no test should depend on their exact words.
"""

from __future__ import annotations

import ast
import copy
from collections.abc import Iterator
from dataclasses import dataclass

COMPARE = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
ARITHMETIC = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
}
# calls whose result nobody sees: words, progress and checks that only speak
SPEAKS = {"warn", "warning", "info", "debug", "log", "print", "say", "note", "close", "flush"}


@dataclass(frozen=True)
class Site:
    """One change.

    Args:
        line: Number of the line in the file, from 1.
        operator: Name of the kind of change.
        before: Source of the expression or statement before.
        after: Its source after.
        start: Place of its first byte in the file, in UTF-8.
        end: Place after its last byte.
    """

    line: int
    operator: str
    before: str
    after: str
    start: int
    end: int

    def apply(self, source: str) -> str:
        """Return the file after the change. Raises SyntaxError if that is no Python (as in a pattern of `match`)."""
        whole = source.encode()
        text = (whole[: self.start] + self.after.encode() + whole[self.end :]).decode()
        ast.parse(text)
        return text


def sites(source: str) -> list[Site]:
    """Return every change of a file, in the order of its lines.

    Example:
        >>> [(site.operator, site.after) for site in sites("def f(a):\\n    return a + 1")]
        [('arithmetic', '(a - 1)'), ('number', '(2)')]
    """
    lengths = [0]
    for line in source.encode().splitlines(keepends=True):
        lengths.append(lengths[-1] + len(line))
    found = []
    for node in _code(ast.parse(source)):
        for operator, new in _changes(node):
            before, after = ast.unparse(node), ast.unparse(ast.fix_missing_locations(copy.copy(new)))
            if before == after:
                continue
            # in brackets an expression keeps its place in the larger one
            text = after if isinstance(node, ast.stmt) else f"({after})"
            start = lengths[node.lineno - 1] + node.col_offset  # type: ignore[attr-defined]
            end = lengths[node.end_lineno - 1] + node.end_col_offset  # type: ignore[attr-defined]
            found.append(Site(node.lineno, operator, before, text, start, end))  # type: ignore[attr-defined]
    return sorted(found, key=lambda site: site.line)


def _code(node: ast.AST) -> Iterator[ast.AST]:
    """Walk through the code of functions, without docstrings, annotations, errors, f-strings and defaults of texts."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Raise | ast.JoinedStr | ast.Assert | ast.Import | ast.ImportFrom):
            continue
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            if child.name in ("__repr__", "__str__"):
                continue
            for statement in child.body:
                yield from _within(statement)
            continue
        if isinstance(child, ast.ClassDef):
            yield from _code(child)


def _within(node: ast.AST) -> Iterator[ast.AST]:
    if isinstance(node, ast.Raise | ast.JoinedStr | ast.Assert | ast.Import | ast.ImportFrom):
        return
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return
    if isinstance(node, ast.Call) and _name(node) in SPEAKS:
        return
    if (
        isinstance(node, ast.If)
        and all(isinstance(part, ast.Raise) for part in node.body)
        and not node.orelse
    ):
        # a check of the input: whether it fires is tested, its parts are those of the check
        yield from _within(node.test)
        return
    yield node
    if isinstance(node, ast.FunctionDef):
        for statement in node.body:
            yield from _within(statement)
        return
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "type_comment", "decorator_list"):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST):
                yield from _within(child)


def _name(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def _changes(node: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    if isinstance(node, ast.Compare) and len(node.ops) == 1 and type(node.ops[0]) in COMPARE:
        yield "comparison", _with(node, ops=[COMPARE[type(node.ops[0])]()])
    if (
        isinstance(node, ast.BinOp)
        and type(node.op) in ARITHMETIC
        and not isinstance(node.left, ast.Constant | ast.JoinedStr)
    ):
        yield "arithmetic", _with(node, op=ARITHMETIC[type(node.op)]())
    if isinstance(node, ast.BoolOp):
        yield "and/or", _with(node, op=ast.Or() if isinstance(node.op, ast.And) else ast.And())
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not | ast.USub):
        yield "sign or not", node.operand
    if isinstance(node, ast.IfExp):
        yield "condition", _with(node, body=node.orelse, orelse=node.body)
    if isinstance(node, ast.Constant) and isinstance(node.value, bool):
        yield "bool", ast.Constant(not node.value)
    elif isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        yield "number", ast.Constant(node.value + 1)
    if isinstance(node, ast.Call):
        for k, keyword in enumerate(node.keywords):
            if keyword.arg is not None:
                yield "keyword left out", _with(node, keywords=node.keywords[:k] + node.keywords[k + 1 :])
        if len(node.args) >= 2 and not any(isinstance(arg, ast.Starred) for arg in node.args[:2]):
            yield "arguments swapped", _with(node, args=[node.args[1], node.args[0], *node.args[2:]])
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call) and _name(node.value) not in SPEAKS:
        yield "call left out", ast.Pass()
    if isinstance(node, ast.AugAssign):
        yield "update left out", ast.Pass()


def _with(node: ast.AST, **fields: object) -> ast.AST:
    new = copy.copy(node)
    for name, value in fields.items():
        setattr(new, name, value)
    return new
