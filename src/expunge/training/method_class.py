"""Check the class of a method: its attributes where it is defined, its fields where it is first used."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Any, get_args, get_type_hints

from ..errors import ExpungeError, raise_all
from ..own_code import is_own

SCHEDULES = ("forget", "retain", "forget+retain", "retain+forget", "sequential", "mixed")
# what the class attributes that hold several words may name, beside `needs`
WORDS = {
    "data": ("forget", "retain"),
    "scenarios": ("class", "part of a class", "random", "ids", "group"),
}


def _allowed(name: str) -> tuple[str, ...]:
    """The words that a class attribute may name."""
    if name != "needs":
        return WORDS[name]
    # here, because help must not import torch
    from ..tasks.task import Capability

    return get_args(Capability)


def attribute_problems(
    cls: type, names: Iterable[str] = ("schedule", "needs", "data", "scenarios")
) -> list[str]:
    """Return what is wrong with the class attributes of a method or measure, one sentence each."""
    problems = []
    for name in names:
        value = getattr(cls, name, ())
        if isinstance(value, property) or (name == "schedule" and not hasattr(cls, name)):
            continue
        if name == "schedule":
            if value not in SCHEDULES:
                problems.append(
                    f"{cls.__name__}.schedule is {value!r}; it must be one of {_quoted(SCHEDULES)}."
                )
        elif not isinstance(value, tuple | list | set | frozenset):
            problems.append(
                f"{cls.__name__}.{name} is {value!r}; it must be a tuple of {_quoted(_allowed(name))}, for example "
                f"({_allowed(name)[0]!r},)."
            )
        elif unknown := [word for word in value if word not in _allowed(name)]:
            problems.append(
                f"{cls.__name__}.{name} names {_quoted(unknown)}, which do not exist; known: {_quoted(_allowed(name))}."
            )
    search = getattr(cls, "search", {})
    if not isinstance(search, Mapping) or any(
        not isinstance(values, tuple | list) or not values for values in search.values()
    ):
        problems.append(
            f"{cls.__name__}.search is {search!r}; it must be a dictionary of fields and the values to try, for example "
            '{"lr": (0.01, 0.1)}.'
        )
    return problems


def check_method_class(cls: type) -> None:
    """Raise `ExpungeError` if a method's fields are not settings, or if it lacks the function that does its work."""
    raise_all(list(_class_problems(cls)), ExpungeError)


@cache
def _class_problems(cls: type) -> tuple[str, ...]:
    if not is_own(cls):
        return ()
    problems = [p for base in cls.__mro__ if is_own(base) for p in _undeclared(base)]
    names = {f.name for f in fields(cls)}
    if unknown := [name for name in getattr(cls, "search", {}) if name not in names]:
        problems.append(
            f"{cls.__name__}.search names {_quoted(unknown)}, which are no fields; it has {_quoted(sorted(names))}."
        )
    try:
        get_type_hints(cls)
    except Exception as error:  # an annotation may be any expression
        problems.append(
            f"an annotation of {cls.__name__} cannot be read: {type(error).__name__}: {error}; import what it names at the top "
            "of the file."
        )
    return tuple(problems)


def _undeclared(cls: type) -> list[str]:
    """Return sentences for annotations that are no fields, and for values of inherited fields without an annotation."""
    annotated = [n for n, hint in inspect.get_annotations(cls).items() if "ClassVar" not in str(hint)]
    # in a base class that is no method, a name without a value says what the methods define
    is_method = any(is_dataclass(base) for base in cls.__mro__[1:])
    annotated = [n for n in annotated if is_method or n in vars(cls)]
    if annotated and "__dataclass_fields__" not in vars(cls):
        return [
            f"{cls.__name__} declares {', '.join(annotated)} and is no dataclass, so these are no settings; decorate it with "
            "@dataclass(frozen=True, kw_only=True)."
        ]
    inherited = {f.name for base in cls.__mro__[1:] if is_dataclass(base) for f in fields(base)}
    return [
        f"{cls.__name__} sets {name} without a type, so the setting keeps its inherited default; write "
        f"`{name}: {type(value).__name__} = {value!r}` in a dataclass."
        for name, value in vars(cls).items()
        if name in inherited and name not in annotated and isinstance(value, str | int | float | tuple | None)
    ]


def made_by_default(cls: type, owner: str = "", **settings: Any) -> Any:
    """Return an instance of a class of settings. Raises `ExpungeError` where a field has no default or the class refuses."""
    try:
        return cls(**settings)
    except ExpungeError:
        raise
    except Exception as error:  # __post_init__ may be the user's code
        raise ExpungeError(
            f"{owner or cls.__name__} cannot be made: {type(error).__name__}: {error}; give each field a default, or pass an "
            "instance with all settings."
        ) from error


def _quoted(words: Iterable[object]) -> str:
    return ", ".join(map(repr, words))
