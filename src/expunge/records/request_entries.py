"""What an entry of a request file must hold."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import NoneType
from typing import Any, get_args

from ..data.past_requests import Goal

TYPES: dict[str, type | tuple[type, ...]] = {
    "request": str,
    "scenario": str,
    "goal": str,
    "ids": list,
    "data": str,
    "classes": list,
    "method": str,
    "description": dict,
    "scores": dict,
    "record": str,
    "receipt": str,
    "commitment": str,
    "contents": list,
    "not_shown": (bool, NoneType),
}


def _is_score(value: Any) -> bool:
    """Whether a value is a percentage. None stands for a score that was not measured."""
    return value is None or (type(value) in (int, float) and 0 <= value <= 100)


# What the right types must contain.
CONTENTS: dict[str, Callable[[Any], bool]] = {
    "request": bool,
    "ids": lambda ids: all(type(name) is str for name in ids),
    "contents": lambda hashes: all(type(text) is str for text in hashes),
    "classes": lambda classes: all(type(k) is int and k >= 0 for k in classes),
    "scores": lambda scores: all(map(_is_score, scores.values())),
}


def entry_problems(path: Path, number: int, entry: Any) -> list[str]:
    """Return what is wrong with one entry of a request file, one sentence each."""
    start = f"{path}: request {number}"
    if not isinstance(entry, dict):
        return [f"{start} is no table; restore the file."]
    entry = {"contents": [], "not_shown": None, **entry}  # files of earlier versions have none
    wrong = [k for k, kind in TYPES.items() if not isinstance(entry.get(k), kind)]
    if not wrong:
        wrong = [k for k, check in CONTENTS.items() if not check(entry[k])]
    problems = [f"{start} has a wrong or missing {', '.join(wrong)}; restore the file."] if wrong else []
    if not wrong and len(entry["contents"]) not in (0, held := len(entry["ids"])):
        problems.append(
            f"{start} has {held} ids for a request of {len(entry['contents'])} samples; restore the file."
        )
    if "goal" not in wrong and entry["goal"] not in get_args(Goal):
        problems.append(
            f"{start} has the goal '{entry['goal']}'; allowed are {' and '.join(get_args(Goal))}; restore the file."
        )
    return problems
