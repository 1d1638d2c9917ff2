"""Change the structure of JSON."""

from __future__ import annotations

import json
import random
from typing import Any

INTS = (
    0,
    1,
    -1,
    2,
    127,
    128,
    255,
    256,
    32767,
    65535,
    65536,
    2**31 - 1,
    2**31,
    2**32 - 1,
    2**53 + 1,
    2**63 - 1,
    2**63,
    2**64,
    10**30,
)
ODD: tuple[Any, ...] = (None, True, False, "", "x", "../x", "/etc/passwd", "a" * 5000, "\0", "\x1b[31m", "é", [], {}, [[]], {"a": 1}, 0.0, -0.0,
                        1e308, float("nan"), float("inf"), float("-inf"), *INTS)  # fmt: skip


def nodes(value: Any) -> list[tuple[Any, Any]]:
    """Return (container, key) of every place in JSON."""
    found: list[tuple[Any, Any]] = []
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
        found.append((value, key))
        if isinstance(inner, dict | list):
            found += nodes(inner)
    return found


def changed_value(value: Any, chance: random.Random) -> Any:
    """Change one place in JSON."""
    places = nodes(value)
    if not places or chance.random() < 0.03:
        return chance.choice(ODD)
    holder, key = chance.choice(places)
    what = chance.randrange(6)
    if what == 0:
        del holder[key]
    elif what == 1 and isinstance(holder, dict):
        holder[chance.choice(["", "x", "\0", f"{key} ", str(key).upper()])] = holder.pop(key)
    elif what == 2:
        holder[key] = [holder[key]] * chance.choice((1, 2, 1000))
    elif what == 3:
        other, at = chance.choice(places)
        holder[key] = json.loads(
            json.dumps(other.get(at) if isinstance(other, dict) else other[at] if at < len(other) else None)
        )
    elif what == 4 and isinstance(holder[key], int | float):
        holder[key] = chance.choice(INTS)
    else:
        holder[key] = chance.choice(ODD)
    return value


def json_text(data: bytes, chance: random.Random, other: bytes) -> bytes:
    """Change a JSON file, mostly in the form of Expunge's own files."""
    if chance.random() < 0.02:
        return b"[" * 100_000
    value = changed_value(json.loads(data), chance)
    indent = 1 if data[1:2] == b"\n" else None
    text = json.dumps(value, indent=indent, ensure_ascii=chance.random() < 0.5)
    return text.encode("utf-8", "surrogatepass") + (b"\n" if data.endswith(b"\n") else b"")


def json_line(data: bytes, chance: random.Random, other: bytes) -> bytes:
    lines = data.splitlines()
    k = chance.randrange(len(lines))
    lines[k] = json_text(lines[k], chance, other)
    return b"\n".join(lines)
