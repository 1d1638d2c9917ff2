"""Flags made from the fields of a dataclass of settings, such as a method."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Mapping
from dataclasses import MISSING, Field, field, fields, make_dataclass
from typing import Annotated, Any, TypeVar, get_type_hints

from cyclopts import Group, Parameter
from docstring_parser import DocstringStyle, parse

from ..training.method_class import made_by_default
from .field_help import field_help

T = TypeVar("T")


class _NotGiven:
    """The default of every flag made here. None cannot be it, because `--clip None` is a value."""

    def __repr__(self) -> str:
        return "NOT_GIVEN"


NOT_GIVEN = _NotGiven()


class _NoValidation:
    """In an annotation, it keeps pydantic from checking the value.

    cyclopts validates every default with pydantic if a program has imported it, and would refuse `NOT_GIVEN`.
    """

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        from pydantic_core import core_schema

        return core_schema.any_schema()


def settings_flags(
    settings_class: type,
    *,
    defaults: Any = None,
    default_text: str = "",
    omit: Collection[str] = (),
    renamed: Mapping[str, str] | None = None,
) -> type:
    """Return a dataclass with one flag per field of `settings_class`; read the result with `given`.

    Args:
        settings_class: A dataclass whose fields all have defaults.
        defaults: The instance whose values the help shows as defaults; by default `settings_class()`.
        default_text: Text that the help shows instead, where the defaults depend on other flags.
        omit: Fields that get no flag.
        renamed: {field: flag}, for fields whose usual flag the command uses for something else.
    """
    hints = get_type_hints(settings_class)
    shown = made_by_default(settings_class) if defaults is None else defaults
    flags = [
        (
            f.name,
            Annotated[
                hints[f.name],
                _NoValidation(),
                FURTHER if _is_rare(settings_class, f.name) else None,
                Parameter(
                    name=(renamed or {}).get(f.name),
                    help=field_help(settings_class, f.name),
                    show_default=default_text or default_string(getattr(shown, f.name)),
                ),
            ],
            field(default=NOT_GIVEN),
        )
        for f in fields(settings_class)
        if f.name not in omit
    ]
    # Python 3.11 would name the module "types" here, whose classes cyclopts does not flatten
    return make_dataclass(
        f"{settings_class.__name__}Flags",
        flags,
        frozen=True,
        kw_only=True,
        namespace={"__module__": __name__},
    )


def _is_rare(settings_class: type, name: str) -> bool:
    """Return whether a setting is one of all gradient methods that few people set."""
    declared = [c for c in settings_class.__mro__ if name in inspect.get_annotations(c)]
    inherited = bool(declared) and declared[0] is not settings_class
    return inherited and name not in COMMON and declared[0].__module__.startswith("expunge.training.")


def given(flags: Any) -> dict[str, Any]:
    """Return {field: value} of the flags that the user gave, for an instance of a class by `settings_flags`."""
    values = {f.name: getattr(flags, f.name) for f in fields(flags)}
    return {name: value for name, value in values.items() if value is not NOT_GIVEN}


# the first panel of a help page
REQUIRED = Parameter(group=Group("Required", sort_key=0))
# the panels that `--help` leaves to `--help-all`
FURTHER = Parameter(group=Group("Further settings", sort_key=5))
RARE = ("Further settings", "Computation", "Receipt", "Failures", "Trackers")
# settings of every gradient method that people do set
COMMON = ("epochs", "lr", "batch_size", "density", "mask", "paper")

# the annotation that spreads a dataclass into the main flags of a command
FLAT = Parameter(name="*")


def flag_group(title: str, position: float) -> Parameter:
    """Return the annotation that spreads a dataclass into flags, which the help shows under `title`.

    `position` orders the groups of a command: smaller ones come first.
    """
    return Parameter(name="*", group=Group(title, sort_key=position))


def method_group(name: str) -> Parameter:
    """Return the annotation of the settings of a method."""
    return flag_group(f"Settings of {name}", 4)


def with_help(flags: type[T]) -> type[T]:
    """Decorate a dataclass of flags: give each flag the help of its field, which may come from a parent class.

    The library reads docstrings too, but keeps their line breaks.
    """
    hints = get_type_hints(flags)
    documented = [
        (f.name, Annotated[hints[f.name], _annotation(flags, f)], _same_default(f))
        for f in fields(flags)  # type: ignore[arg-type]
    ]
    made = make_dataclass(
        flags.__name__,
        documented,
        bases=(flags,),
        frozen=True,
        kw_only=True,
        namespace={"__module__": flags.__module__, "__doc__": flags.__doc__},
    )
    return made


def _annotation(flags: type, f: Field[Any]) -> Parameter:
    text = Parameter(help=field_help(flags, f.name))
    needed = f.default is MISSING and f.default_factory is MISSING
    return Parameter.combine(text, REQUIRED) if needed else text


def _same_default(f: Field[Any]) -> Any:
    """Return a field with the default of `f`, if it has one."""
    if f.default_factory is not MISSING:
        return field(default_factory=f.default_factory)
    return field(default=f.default)


def help_text(docstring: str | None) -> str:
    """Return the description of a docstring, without its sections, one line per paragraph: the terminal wraps it."""
    description = parse(docstring or "", style=DocstringStyle.GOOGLE).description or ""
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in description.split("\n\n"))


def default_string(value: Any) -> str:
    """Return a default as the help shows it: a sequence as it is typed, anything else as Python writes it."""
    if isinstance(value, tuple | list):
        return " ".join(map(str, value)) or "none"
    return str(value)
