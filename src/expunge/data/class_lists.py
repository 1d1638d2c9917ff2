"""Class names in the order of their numbers: those that a user gives, and those among the entries of a checkpoint."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from numbers import Integral
from typing import Any

from torch import nn

# names of entries that number classes
ENTRIES = ("class_to_idx", "idx_to_class", "id2label", "label2id", "label_names", "class_names", "classes")
# levels of dicts that are searched, such as `hyper_parameters` of Lightning and `cfg` of others
DEPTH = 4
# classes that a message shows
SHOWN = 5
# where a model has the class names of its file
_ATTRIBUTE = "_class_names_of_file"


def by_number(classes: Mapping[Any, Any]) -> list[str] | None:
    """Return the names of {name: number}, such as `class_to_idx`, or {number: name}, such as `id2label`.

    None if the numbers are not 0 to K - 1.
    """
    for numbers, names in ((classes.values(), classes.keys()), (classes.keys(), classes.values())):
        if all(isinstance(k, Integral) and not isinstance(k, bool) for k in numbers):
            pairs = sorted(zip(map(int, numbers), names, strict=True), key=lambda pair: pair[0])
            if [k for k, _ in pairs] == list(range(len(pairs))):
                return [str(name) for _, name in pairs]
    return None


def stored_classes(content: Any) -> dict[str, list[str]]:
    """Return {entry: class names in the order of their numbers} of the entries that name classes. Others are left out.

    Args:
        content: What a torch file holds, or the texts of a safetensors file.

    Example:
        >>> stored_classes({"hyper_parameters": {"class_to_idx": {"ship": 0, "cat": 1}}})
        {'hyper_parameters.class_to_idx': ['ship', 'cat']}
    """
    found = {place: class_names(value) for place, value in _entries(content, "")}
    return {place: names for place, names in found.items() if names}


def class_names(value: Any) -> list[str]:
    """Return class names in the order of their numbers. Empty if there are not at least two different ones.

    Args:
        value: A list of names, a dict of names and numbers, or a text of JSON or with commas.
    """
    names = _numbered(value) or []
    return names if len({plain_name(n) for n in names}) == len(names) > 1 else []


def remember_classes(model: nn.Module, name: str, classes: Mapping[str, list[str]]) -> None:
    """Write on a model which class names its file has, so that each check of model and data compares them.

    Args:
        model: The model.
        name: Name of the file.
        classes: What `stored_classes` returned.
    """
    named = {f"{place} of {name}": list(names) for place, names in classes.items()}
    object.__setattr__(model, _ATTRIBUTE, named)


def remembered_classes(model: nn.Module) -> dict[str, list[str]]:
    """Return what `remember_classes` wrote on a model or its modules."""
    return {place: names for m in model.modules() for place, names in vars(m).get(_ATTRIBUTE, {}).items()}


def class_notices(name: str, classes: Mapping[str, list[str]], data: Sequence[str] | None) -> list[str]:
    """Return the sentence on class names of a file that are none of the data, or nothing.

    Args:
        name: Name of the file.
        classes: What `stored_classes` returned.
        data: Class names of the data, in the order of their numbers.
    """
    # numbers are no names: the data has none then
    if not data or all(label.isdigit() for label in data):
        return []
    labels = {plain_name(label) for label in data}
    return [
        f"{place} of {name} numbers the classes {listed(names)}, and the data {listed(data)}; if a number means another class, the "
        "wrong class is forgotten."
        for place, names in classes.items()
        if len(names) == len(data) and {plain_name(n) for n in names} != labels
    ]


def _entries(content: Any, path: str, depth: int = DEPTH) -> Iterator[tuple[str, Any]]:
    for key, value in content.items() if isinstance(content, Mapping) and depth else ():
        if not isinstance(key, str):
            continue
        if key in ENTRIES:
            yield f"{path}{key}", value
        elif isinstance(value, Mapping):
            yield from _entries(value, f"{path}{key}.", depth - 1)


def _numbered(value: Any) -> list[str] | None:
    """Class names in order from a list, a dict, or a text of JSON or with commas. None for anything else."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            value = [name.strip() for name in value.split(",")]
    if isinstance(value, Mapping):
        are_texts = all(isinstance(k, str) and k.isdecimal() for k in value)
        are_named = all(isinstance(v, str) for v in value.values())
        # JSON has no numbers as keys
        return by_number({int(k): v for k, v in value.items()} if are_texts and are_named else value)
    is_list = isinstance(value, list | tuple) and all(isinstance(v, str) for v in value)
    return list(value) if is_list else None


def plain_name(name: str) -> str:
    """Return a class name without differences of case and spaces."""
    return " ".join(str(name).casefold().split())


def listed(names: Sequence[str]) -> str:
    """Return the first class names with their numbers."""
    shown = ", ".join(f"{k} = {name}" for k, name in enumerate(names[:SHOWN]))
    return f"{shown}{', ...' if len(names) > SHOWN else ''}"
