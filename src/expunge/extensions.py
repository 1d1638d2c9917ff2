"""Find the classes of an extension point: built-in files, installed packages, and the user's own modules."""

from __future__ import annotations

import importlib
import pkgutil
import sys
import warnings
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Generic, TypeVar

from .errors import ExpungeError
from .imports import import_object

T = TypeVar("T")


@dataclass(frozen=True)
class Extensions(Generic[T]):
    """The classes of one extension point.

    Args:
        base: The class that all of them extend.
        noun: What one of them is, for messages: "method".
        package: Full name of the package whose files define one class each. Files that begin with `_` are left out.
        group: Name of the entry points by which installed packages add classes.

    Example:
        >>> measures = Extensions(Measure, "measure", "expunge.audit.measures", "expunge.measures")  # doctest: +SKIP
        >>> measures.find("tow")  # doctest: +SKIP
    """

    base: type[T]
    noun: str
    package: str
    group: str

    def names(self) -> list[str]:
        """Return the names of the built-in files and of the entry points of installed packages."""
        return sorted({*self.files(), *installed(self.group)})

    def classes(self) -> dict[str, type[T]]:
        """Return {name: class} for all names. An entry point that cannot be imported is left out, with a warning."""
        classes = {}
        for name in self.names():
            try:
                classes[name] = self.find(name)
            except ExpungeError as error:
                if name in self.files():
                    raise
                # a broken package must not break the list of all others
                warnings.warn(str(error), RuntimeWarning, stacklevel=2)
        return classes

    def files(self) -> tuple[str, ...]:
        """Return the names of the built-in files."""
        return _files_in(tuple(importlib.import_module(self.package).__path__))

    def find(self, name: T | type[T] | str) -> type[T]:
        """Return a class.

        Args:
            name: A name of `names()`, `package.module:Class`, or a class or instance, which is returned as it is.

        Raises:
            ExpungeError: There is no such class; the message lists the known names.
        """
        if isinstance(name, self.base):
            return type(name)
        if not isinstance(name, str):
            return self._checked(name, repr(name))
        if ":" in name:
            return self._checked(import_object(name, ExpungeError), f"'{name}'")
        if name in self.files():
            return self._defined_in(name)
        if point := installed(self.group).get(name):
            return self._checked(loaded(point), f"the entry point '{name}'")
        raise ExpungeError(
            f"there is no {self.noun} '{name}'; known: {', '.join(self.names())}. Write package.module:Class for a "
            f"{self.noun} of your own."
        )

    def _defined_in(self, file: str) -> type[T]:
        """The one class that a built-in file defines."""
        module = importlib.import_module(f"{self.package}.{file}")
        classes = [
            v
            for v in vars(module).values()
            if isinstance(v, type)
            and issubclass(v, self.base)
            and v.__module__ == module.__name__
            and not v.__name__.startswith("_")
        ]
        if len(classes) != 1:
            folder = self.package.rpartition(".")[2]
            raise ExpungeError(
                f"{folder}/{file}.py defines {len(classes)} {self.noun}s; a file holds exactly one."
            )
        return classes[0]

    def _checked(self, value: Any, shown: str) -> type[T]:
        if isinstance(value, type) and issubclass(value, self.base):
            return value
        raise ExpungeError(f"{shown} is no {self.noun}; give a subclass of expunge.{self.base.__name__}.")


def installed(group: str) -> dict[str, EntryPoint]:
    """Return the entry points of a group, by name. A package that is put on `sys.path` later is found too."""
    return _installed(group, tuple(sys.path))


def loaded(point: EntryPoint) -> Any:
    """Return what an entry point names. Raises `ExpungeError` if its package cannot be imported."""
    try:
        return point.load()
    except Exception as caught:  # the code of the package runs here and may raise anything
        raise ExpungeError(
            f"the entry point '{point.name}' ({point.value}) cannot be imported: {type(caught).__name__}: {caught}; "
            "repair or uninstall its package."
        ) from caught


@cache
def _files_in(folders: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(m.name for m in pkgutil.iter_modules(folders) if not m.name.startswith("_"))


@cache
def _installed(group: str, path: tuple[str, ...]) -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=group)}
