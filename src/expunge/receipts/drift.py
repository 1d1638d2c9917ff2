"""What the latest audit of a later model says of a request of a ledger."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Drift:
    """Hold what the latest audit of a later model says of a request.

    Args:
        UA: UA on its samples, in percent.
        MIA: MIA on its samples, in percent.
        UA_change: Change of UA since the audit of the request, in points. None if there was none.
        MIA_change: Change of MIA.
        came_back: True if the later model recognises its samples again.
        request: Number of the request that the audit was attached to.
    """

    UA: float | None
    MIA: float | None
    UA_change: float | None
    MIA_change: float | None
    came_back: bool
    request: int

    def __str__(self) -> str:
        if self.UA is None and self.MIA is None:
            return "not audited: its samples are gone"
        return f"UA {_shown(self.UA, self.UA_change)}, MIA {_shown(self.MIA, self.MIA_change)}"

    @classmethod
    def of(cls, entry: dict[str, Any], request: int) -> Drift:
        """Read an entry as a row stores it."""
        names = ("UA", "MIA", "UA_change", "MIA_change")
        numbers: Any = {name: _float(entry.get(name)) for name in names}
        return cls(**numbers, came_back=entry.get("came_back") is True, request=request)


def _float(value: Any) -> float | None:
    try:
        return None if value is None else float(value)
    except (TypeError, ValueError):
        return None


def _shown(value: float | None, change: float | None) -> str:
    if value is None:
        return "unknown"
    return f"{value:.1f}" if change is None else f"{value:.1f} ({change:+z.1f})"
