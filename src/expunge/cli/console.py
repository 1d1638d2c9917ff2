"""The console that tables are printed on."""

from __future__ import annotations

import os
import sys

from rich.console import Console

# columns of a file or pipe, which has no edge to break lines at
UNLIMITED = 10_000


def table_console() -> Console:
    """Return a console that cuts and wraps nothing unless a terminal, or the variable COLUMNS, has a width."""
    has_width = sys.stdout.isatty() or os.environ.get("COLUMNS", "").isdigit()
    return Console() if has_width else Console(width=UNLIMITED)
