"""What is wrong with settings by the types of their fields alone: words, whole numbers, numbers that are none."""

from __future__ import annotations

import math
from dataclasses import fields
from numbers import Integral, Real
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

WORDS = {int: "a whole number", float: "a finite number", bool: "True or False"}


def choices(settings: Any) -> list[str]:
    """What is wrong with the fields of a dataclass that take one of a few words or a number, a sentence each."""
    hints, found = get_type_hints(type(settings)), []
    for name in (f.name for f in fields(settings)):
        hint, given = hints[name], getattr(settings, name)
        if get_origin(hint) is Literal:
            if given not in get_args(hint):
                found.append(
                    f"{name} is {given!r}; it must be one of {', '.join(map(repr, get_args(hint)))}."
                )
            continue
        allowed = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
        if all(kind in (*WORDS, type(None)) for kind in allowed) and not any(_is(given, k) for k in allowed):
            said = " or ".join(WORDS.get(kind, "None") for kind in allowed)
            found.append(f"{name} is {given!r}; it must be {said}.")
    return found


def faults(settings: Any) -> list[str]:
    """What is wrong with settings that have `problems`: by their types, and where these are right by what they say themselves."""
    return choices(settings) or settings.problems()


def _is(value: Any, kind: Any) -> bool:
    if kind is float:
        return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
    if kind is int:
        return isinstance(value, Integral) and not isinstance(value, bool)
    return isinstance(value, kind)
