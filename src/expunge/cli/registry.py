"""How tyro comes by the help of the fields of this package's dataclasses: from the comments beside them (`field_help.py`)."""

from __future__ import annotations

from dataclasses import MISSING, fields, is_dataclass
from functools import partial
from typing import Any, get_type_hints

from tyro import MISSING_NONPROP
from tyro.constructors import ConstructorRegistry, StructConstructorSpec, StructFieldSpec, StructTypeInfo

from .field_help import field_help


def registry() -> ConstructorRegistry:
    """What tells tyro the help of the fields of this package's dataclasses: its own reading stops at the class that
    declares a field last, and at brackets."""
    made = ConstructorRegistry()

    @made.struct_rule
    def described(info: StructTypeInfo) -> StructConstructorSpec | None:
        kind: Any = info.type
        if not (isinstance(kind, type) and is_dataclass(kind) and kind.__module__.startswith("expunge.")):
            return None
        hints = get_type_hints(kind, include_extras=True)
        return StructConstructorSpec(
            instantiate=kind,
            fields=tuple(
                StructFieldSpec(
                    f.name, hints[f.name], _default(f, info.default), partial(field_help, kind, f.name)
                )
                for f in fields(kind)
            ),
        )

    return made


def _default(field: Any, instance: Any) -> Any:
    """A field's default: as in the instance that stands for the whole group, else the class's own."""
    if hasattr(instance, field.name):
        return getattr(instance, field.name)
    if field.default is not MISSING:
        return field.default
    return field.default_factory() if field.default_factory is not MISSING else MISSING_NONPROP
