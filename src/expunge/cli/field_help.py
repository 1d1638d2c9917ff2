"""Find the help of a dataclass field.

The help is in the `Args:` section of the class docstring, or in that of the nearest parent class that documents the field. Flags,
`expunge methods --verbose` and the docs table use it.
"""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from functools import cache

from docstring_parser import DocstringStyle, parse


def field_help(settings_class: type, name: str) -> str:
    """Return what a field means; "" where neither the class nor a parent documents it.

    Metadata `{"help": ...}` of the field is used where a class has no entry for it.

    Args:
        settings_class: A dataclass.
        name: Name of the field.

    Example:
        >>> field_help(SalUn, "density")
        'Share of the parameters that may move ...'
    """
    for parent in settings_class.__mro__:
        # the entries of a project are a model of pydantic
        if is_dataclass(parent) or "model_fields" in dir(parent):
            metadata = (
                {f.name: f.metadata.get("help", "") for f in fields(parent)} if is_dataclass(parent) else {}
            )
            help_text = _documented(parent).get(name) or metadata.get(name)
            if help_text:
                return help_text
    return ""


@cache
def _documented(settings_class: type) -> dict[str, str]:
    """Return {field: help} of the `Args:` section of the class's own docstring, each on one line."""
    parsed = parse(settings_class.__dict__.get("__doc__") or "", style=DocstringStyle.GOOGLE)
    return {p.arg_name: " ".join((p.description or "").split()) for p in parsed.params}
