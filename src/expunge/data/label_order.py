"""The order of class names that nothing else orders: numerical where all are numbers, else alphabetical."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)


def in_order(names: Iterable[str], known: Sequence[str] = ()) -> list[str]:
    """Return each name once: in numerical order if all are numbers, else in alphabetical order.

    Args:
        names: The names.
        known: Names that come first, in this order, also if `names` lacks them.

    Example:
        >>> in_order(["10", "9", "10"])
        ['9', '10']
    """
    new = set(names) - set(known)
    if all(NUMBER.fullmatch(name) for name in new):
        return [*known, *sorted(new, key=lambda name: (float(name), name))]
    return [*known, *sorted(new)]
