"""Hashes of the user's code that the runs of a grid depend on, for their cache keys."""

from __future__ import annotations

from collections.abc import Iterable

from ..audit.measure import find_measure
from ..errors import ExpungeError, ModelError
from ..extensions import installed, loaded
from ..imports import import_object
from ..models import KINDS
from ..own_code import hashes_of_class, hashes_of_function
from ..sources.spec import ENTRY_POINTS, PATHS, check_spec
from ..training.registry import find

Hashes = list[str | None]


def of_method(name: str) -> Hashes:
    """Return the hashes of the files of a method and its own base classes; [] for a built-in one."""
    return hashes_of_class(find(name))


def of_measures(names: Iterable[str]) -> Hashes:
    """Return the hashes of the files of measures and their own base classes."""
    return [code for name in names for code in hashes_of_class(find_measure(name))]


def of_data(spec: str) -> Hashes:
    """Return the hash of the file of the function that a data spec names; [] for a built-in source."""
    name, path, _ = check_spec(spec)
    if name in PATHS:
        return []
    if point := installed(ENTRY_POINTS).get(name):
        return hashes_of_function(loaded(point))
    return hashes_of_function(import_object(f"{name}:{path}", ExpungeError))


def of_model(spec: str) -> Hashes:
    """Return the hash of the file of the function that a model spec names; [] for a built-in model or a folder."""
    if ":" not in spec or spec.partition(":")[0] in KINDS:
        return []
    return hashes_of_function(import_object(spec, ModelError))
