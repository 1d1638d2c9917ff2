"""Print the checks of a receipt or a ledger."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..receipts.limits import visible

if TYPE_CHECKING:
    from ..receipts.verify import Check


def show_checks(checks: Sequence[Check]) -> bool:
    """Print one line per check, and return whether all hold."""
    for check in checks:
        print(f"{'ok    ' if check.ok else 'FAILED'} {check.name}: {visible(check.message)}")
    failed = sum(not check.ok for check in checks)
    print(f"{failed} of {len(checks)} checks failed" if failed else f"all {len(checks)} checks hold")
    return not failed
