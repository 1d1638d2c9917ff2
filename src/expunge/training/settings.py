"""Validate dataclasses of settings by the types of their fields, then by their own rules.

Own code: a validation library in strict mode refuses NumPy's numbers, and cannot skip the fields that hold other objects.
With it, this file would not get shorter.
"""

from __future__ import annotations

import math
from dataclasses import fields
from functools import lru_cache
from numbers import Integral, Real
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from ..errors import ExpungeError
from .method_class import made_by_default

TYPE_NAMES = {int: "a whole number", float: "a finite number", bool: "True or False"}


@lru_cache(maxsize=256)
def _hints(settings_class: type) -> dict[str, Any]:
    """Return the types of a class's fields. To read them from text takes longer than to check the values."""
    return get_type_hints(settings_class)


def type_problems(settings: Any) -> list[str]:
    """Return the problems of fields that take a number, a bool or one of a few words, one sentence each.

    Fields of other types are not checked.

    Args:
        settings: A dataclass instance.
    """
    settings_class: Any = type(settings)
    hints, problems = _hints(settings_class), []
    for name in (f.name for f in fields(settings)):
        hint, value = hints[name], getattr(settings, name)
        if get_origin(hint) is Literal:
            if value not in get_args(hint):
                problems.append(
                    f"{name} is {value!r}; it must be one of {', '.join(map(repr, get_args(hint)))}."
                )
            continue
        types = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
        checkable = all(t in (*TYPE_NAMES, type(None)) for t in types)
        if checkable and not any(_is_instance(value, t) for t in types):
            allowed = " or ".join(TYPE_NAMES.get(t, "None") for t in types)
            problems.append(f"{name} is {value!r}; it must be {allowed}.")
    return problems


def settings_problems(settings: Any) -> list[str]:
    """Return the problems of settings, one sentence each: of their types, or if all types are right, of their values.

    Args:
        settings: A dataclass instance with a method `problems()`.
    """
    return type_problems(settings) or _own_problems(settings)


def _own_problems(settings: Any) -> list[str]:
    """What the class itself says of its settings. It may be the user's code."""
    name = f"{type(settings).__name__}.problems()"
    try:
        problems = settings.problems()
    except Exception as error:
        return [
            f"{name} failed: {type(error).__name__}: {error}; return a list of sentences, or [] for none."
        ]
    if not isinstance(problems, list | tuple) or any(not isinstance(p, str) for p in problems):
        return [f"{name} returned {problems!r}; return a list of sentences, or [] for none."]
    return list(problems)


def _is_instance(value: Any, expected: Any) -> bool:
    if expected is float:
        return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
    if expected is int:
        return isinstance(value, Integral) and not isinstance(value, bool)
    return isinstance(value, expected)


def field_problems(owner: str, settings: Any, values: dict[str, Any]) -> list[str]:
    """Check the fields of a dataclass: their names, their types, and what the class itself says of their values.

    Args:
        owner: What the settings belong to, for messages.
        settings: The dataclass.
        values: {field: value}. Fields that keep their default may be missing.

    Returns:
        One sentence for each problem.
    """
    known = sorted(f.name for f in fields(settings))
    unknown = [
        f"'{k}' is no setting of {owner}; known: {', '.join(known)}." for k in values if k not in known
    ]
    if unknown:
        return unknown
    try:
        return settings_problems(made_by_default(settings, owner, **values))
    except ExpungeError as error:
        return error.problems
