"""How many copies of forget samples the split of a record names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

SETS = ("retain", "validation", "test")


def copies_text(split: Mapping[str, Any]) -> str:
    """Return the numbers of copies, for the facts of a run. Records of earlier versions hold ids too, which are left out.

    Example:
        >>> copies_text({"copies_found": {"near": {"retain": {"count": 3, "similarity": 0.91, "ids": ["a"]}}}})
        '3 near copies in the retain set, which stay there (similarity 0.91 or more)'
    """
    found = split.get("copies_found")
    if not isinstance(found, dict):
        return ""
    # a run for several requests may include the copies of some and report those of others
    handling = split.get("copies") or found.get("handling")
    ends = {"include": "now in the forget set", "report": ""}
    texts = []
    for kind in ("exact", "near"):
        for part, count, lowest in _counts(found.get(kind)):
            stays = f"which stay{'s' * (count == 1)} there"
            end = (
                stays
                if kind == "near" or part == "test"
                else ends.get(str(handling), "of which some may stay")
            )
            if kind == "exact" and part == "validation" and handling == "include":
                end = "which has left it" if count == 1 else "which have left it"
            least = f" (similarity {lowest:g} or more)" if lowest else ""
            place = f"{count:,} {kind} cop{'y' if count == 1 else 'ies'} in the {part} set"
            texts.append(f"{place}, {end or stays}{least}")
    return "; ".join(texts)


def _counts(kind: Any) -> Iterator[tuple[str, int, float]]:
    """Yield set, number of copies, and lowest similarity (0 if unknown)."""
    for part, entry in (kind if isinstance(kind, dict) else {}).items():
        if part not in SETS or not isinstance(entry, dict) or not isinstance(entry.get("count"), int):
            continue
        lowest = entry.get("similarity")
        if entry["count"]:
            yield part, entry["count"], lowest if isinstance(lowest, float) else 0.0
