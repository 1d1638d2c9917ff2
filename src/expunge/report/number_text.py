"""Numbers and settings as text. A missing value is a dash."""

from __future__ import annotations

import math
from typing import Any

from ..records.statistics import Stat
from .svg import tick_text

DASH = "–"


def fixed(value: float | None, digits: int = 1, sign: bool = False) -> str:
    """Format a number with a fixed number of decimals, such as `12.3`.

    Args:
        value: The number. None and infinity give a dash.
        digits: Number of decimals.
        sign: Put a `+` before a positive number. A minus is always a true minus sign.
    """
    if value is None or not math.isfinite(value):
        return DASH
    text = f"{value:+.{digits}f}" if sign else f"{value:.{digits}f}"
    if not float(text):
        text = f"{0:.{digits}f}"
    return text.replace("-", "\N{MINUS SIGN}")


def compact(value: float | None) -> str:
    """Format a number of unknown size: one decimal from 10 on, three significant digits below 10."""
    if value is None or abs(value) >= 10 or not value:
        return fixed(value)
    return tick_text(float(f"{value:.3g}"))


def duration(seconds: float | None) -> str:
    """Format a time: `0.08 s`, `4.2 s`, `3 min 5 s`, `2 h 10 min`."""
    if seconds is None:
        return DASH
    if seconds < 1:
        return f"{seconds:.2f} s"
    if seconds < 100:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def memory(size: float | None) -> str:
    """Format a number of bytes in MiB or GiB (powers of 1,024)."""
    if size is None:
        return DASH
    return f"{size / 2**20:,.0f} MiB" if size < 2**30 else f"{size / 2**30:.1f} GiB"


def ratio(value: float | None, reference: float | None) -> str:
    """Format `value` as a share of `reference`: `0.14 ×`. Empty if one of them is missing."""
    if value is None or not reference:
        return ""
    share = value / reference
    return f"{share:.2g} ×" if share < 10 else f"{share:.0f} ×"


def gap_step(gap: float | None) -> int:
    """Return the step of the colour scale for a gap in points.

    Steps 0, 1 and 2 are gaps within 1, 3 and 10 points; step 3 is a larger gap; -1 is no gap.
    """
    return -1 if gap is None else sum(abs(gap) > limit + 1e-9 for limit in (1, 3, 10))


def listed(words: list[str]) -> str:
    """Join words: `a`, `a and b`, `a, b and c`."""
    return words[0] if len(words) == 1 else ", ".join(words[:-1]) + " and " + words[-1] if words else ""


def points(stat: Stat) -> str:
    """Format a gap with its spread, if it has one, without line breaks: `1.24 ± 0.10 points`."""
    spread = f" ± {fixed(stat.spread, 2)}" if stat.spread is not None else ""
    return f"{fixed(stat.mean, 2)}{spread} points".replace(" ", "\N{NO-BREAK SPACE}")


def setting_text(value: Any) -> str:
    """Format the value of a setting as a user types it."""
    if value is None:
        return DASH
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, dict):
        return ", ".join(f"{k} {setting_text(v)}" for k, v in value.items())
    return ", ".join(setting_text(v) for v in value) if isinstance(value, list | tuple) else str(value)
