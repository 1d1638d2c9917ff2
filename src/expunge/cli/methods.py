"""`expunge methods`: list the unlearning methods."""

from __future__ import annotations

import sys
from dataclasses import fields


def methods(*, verbose: bool = False) -> None:
    """List the unlearning methods, or print their documentation.

    The table says which models and forget sets a method serves, which samples it needs, and whether it can be masked.

    Args:
        verbose: Print the documentation of each method: its source, what is published, what is ours, and all settings.
    """
    from rich.console import Console
    from rich.table import Table

    from ..training.registry import METHODS
    from .method_commands import first_line
    from .methods_page import facts

    if verbose:
        for method in METHODS.classes().values():
            print(_documentation(method))
        return
    table = Table("method", "what it does, and for what", show_lines=True)
    table.columns[0].no_wrap = True
    for name, method in METHODS.classes().items():
        table.add_row(name, f"{first_line(method)}\n[dim]{facts(method)}[/dim]")
    Console().print(table)


def _documentation(method: type) -> str:
    """Return the documentation of a method's file, and its settings with their meanings."""
    from .field_help import field_help

    text = (sys.modules[method.__module__].__doc__ or "").strip()
    defaults = method()
    rows = [
        f"  {f.name} = {getattr(defaults, f.name)!r}  # {field_help(method, f.name)}" for f in fields(method)
    ]
    return "\n".join([f"\n## {method.name()}\n{text}\n", *rows])  # type: ignore[attr-defined]
