"""Imports run downwards: what computes knows nothing of the command line, and nothing but the command line knows the report."""

import ast
from pathlib import Path

import expunge

ROOT = Path(expunge.__file__).parent


def imported(file: Path) -> set[str]:
    """Every module that a file imports, at its head or inside a function, by absolute name."""
    found: set[str] = set()
    here = ("expunge", *file.relative_to(ROOT).with_suffix("").parts)
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = (
                ".".join([*here[: -node.level], *filter(None, [node.module])]) if node.level else node.module
            )
            found |= {base, *(f"{base}.{alias.name}" for alias in node.names)}
    return found


def within(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def test_only_the_command_line_knows_flags_terminals_and_reports():
    above = ("expunge.cli", "expunge.report", "cyclopts", "rich")
    wrong = [
        f"{file.relative_to(ROOT)} imports {name}"
        for file in sorted(ROOT.rglob("*.py"))
        if file.relative_to(ROOT).parts[0] not in ("cli", "report", "__main__.py")
        for name in imported(file)
        if any(within(name, package) for package in above)
        # The figures of the results page are drawn with the chart system of the report.
        and not (file.name == "plots.py" and within(name, "expunge.report.svg"))
    ]
    assert not wrong


def test_methods_know_no_audit_and_audits_no_grid():
    wrong = [
        f"{file.relative_to(ROOT)} imports {name}"
        for folder, other in (("methods", "expunge.audit"), ("audit", "expunge.bench"))
        for file in sorted((ROOT / folder).glob("*.py"))
        for name in imported(file)
        if within(name, other)
    ]
    assert not wrong
