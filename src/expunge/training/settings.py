"""Check settings by the types of their fields.

Own code: a validation library in strict mode refuses NumPy's numbers, and cannot skip the fields that hold other objects.
With it, this file would not get shorter.
"""

from __future__ import annotations

import math
from dataclasses import fields
from numbers import Integral, Real
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

WORDS = {int: "a whole number", float: "a finite number", bool: "True or False"}


def choices(settings: Any) -> list[str]:
    """Check the fields of a dataclass that hold one of a few words, a number, True or False.

    Returns:
        One sentence for each value of another type.
    """
    hints, problems = get_type_hints(type(settings)), []
    for name in (f.name for f in fields(settings)):
        hint, value = hints[name], getattr(settings, name)
        if get_origin(hint) is Literal:
            if value not in get_args(hint):
                allowed = ", ".join(map(repr, get_args(hint)))
                problems.append(f"{name} is {value!r}; it must be one of {allowed}.")
            continue
        types = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
        if all(t in (*WORDS, type(None)) for t in types) and not any(_is(value, t) for t in types):
            allowed = " or ".join(WORDS.get(t, "None") for t in types)
            problems.append(f"{name} is {value!r}; it must be {allowed}.")
    return problems


def faults(settings: Any) -> list[str]:
    """Check settings by their types, and if these are right, by their own `problems`."""
    return choices(settings) or settings.problems()


def _is(value: Any, type_: Any) -> bool:
    if type_ is float:
        return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
    if type_ is int:
        return isinstance(value, Integral) and not isinstance(value, bool)
    return isinstance(value, type_)
