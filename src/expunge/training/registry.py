"""Find methods: those of `expunge/methods`, of installed packages, and of the user's own modules."""

from __future__ import annotations

import hashlib
import importlib
import inspect
import json
import pkgutil
from collections.abc import Iterable
from dataclasses import fields
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, TypeAlias

from .. import tasks
from ..errors import ExpungeError
from ..imports import import_object
from ..records.checkpoint import Checkpoint
from ..tasks.task import Task, missing_capabilities, missing_text
from .method import PACKAGE, Method

ENTRY_POINTS = "expunge.methods"

MethodLike: TypeAlias = Method | type[Method] | str


def names() -> list[str]:
    """Return the names of all methods: the files of `expunge/methods`, and the entry points of installed packages."""
    return sorted({*_files(), *_entry_points()})


def find(name: MethodLike) -> type[Method]:
    """Return the class of a method.

    Args:
        name: A name of `names()`, `package.module:Class` for a class of your own, or a class or instance.

    Raises:
        ExpungeError: There is no such method; the message lists the known names.

    Example:
        >>> find("salun").__name__
        'SalUn'
    """
    if isinstance(name, Method):
        return type(name)
    if isinstance(name, type):
        return _checked(name, repr(name))
    if ":" in name:
        return _imported(name)
    if name in _files():
        return _defined_in(name)
    if name in _entry_points():
        return _checked(_entry_points()[name].load(), f"the entry point '{name}'")
    raise ExpungeError(
        f"there is no method '{name}'; known: {', '.join(names())}. Write package.module:Class for a method of your own."
    )


def make(method: MethodLike) -> Method:
    """Return an instance: the one given, or one with the default settings of a class or name. Raises `ExpungeError`."""
    return method if isinstance(method, Method) else find(method)()


def served_tasks(method: type[Method]) -> list[str]:
    """Return the names of the built-in tasks that offer what a method needs."""
    return [task.name for task in tasks.BUILT_IN if not missing_capabilities(task, method.needs)]


def serves(method: type[Method], task: Task | type[Task]) -> bool:
    """Return whether a task offers what a method needs with its default settings."""
    return not missing_capabilities(task, method.needs)


def unsuited_text(method: type[Method], task: Task | type[Task]) -> str:
    """Return the sentence for a method that needs what a task does not offer, with the command to use instead."""
    commands = {
        "classification": "`expunge unlearn`",
        "diffusion": "`expunge unlearn-generator` and `expunge erase`",
    }
    served = [commands[name] for name in served_tasks(method) if name in commands and name != task.name]
    instead = f" On the command line it works with {' and '.join(served)}." if served else ""
    missing = missing_capabilities(task, method.needs)
    name = task.__name__ if isinstance(task, type) else type(task).__name__
    pieces = missing_text(method.__name__, task.name, name, missing)
    return pieces + instead


def source_of(method: type[Method]) -> dict[str, str | None]:
    """Return where a method is defined, for records: {"class": "module:Class", "source_sha256": hash of its file}."""
    try:
        digest = hashlib.sha256(Path(inspect.getfile(method)).read_bytes()).hexdigest()
    except (OSError, TypeError):  # defined in a notebook or an interactive session
        digest = None
    return {"class": f"{method.module_name()}:{method.__qualname__}", "source_sha256": digest}


# ---- from checkpoint metadata


def recipe_from_metadata(checkpoint: Checkpoint) -> Method | None:
    """Return how an original or retrained model was trained; None where the metadata does not say it in a readable form."""
    metadata = checkpoint.metadata
    name = metadata.get("method", "") if metadata.get("kind") in ("original", "retrain") else "retrain"
    return _with_settings(name, metadata.get("recipe"))


def method_from_metadata(checkpoint: Checkpoint) -> Method | None:
    """Return the method that made an unlearned or retrained model; None for an original or where the metadata does not say it."""
    metadata = checkpoint.metadata
    if metadata.get("kind") == "original":
        return None
    return _with_settings(metadata.get("method", ""), metadata.get("settings"))


def _with_settings(name: str, settings: str | None) -> Method | None:
    # a class of the user's own is not imported because a file names it
    if settings is None or name not in names():
        return None
    method = find(name)
    try:
        values = json.loads(settings)
    except ValueError:
        return None
    if not isinstance(values, dict) or set(values) - {f.name for f in fields(method)}:
        return None
    try:
        made = method(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})
        return None if made.problems() else made
    except TypeError:
        return None


# ---- where classes come from


def _files() -> tuple[str, ...]:
    return _files_in(tuple(importlib.import_module(f"{PACKAGE}.methods").__path__))


@cache
def _files_in(folders: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(m.name for m in pkgutil.iter_modules(folders) if not m.name.startswith("_"))


@cache
def _entry_points() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=ENTRY_POINTS)}


def _defined_in(file: str) -> type[Method]:
    """The one method that a file of `expunge/methods` defines."""
    module = importlib.import_module(f"{PACKAGE}.methods.{file}")
    classes = _methods_of(vars(module).values(), module.__name__)
    if len(classes) != 1:
        raise ExpungeError(f"methods/{file}.py defines {len(classes)} methods; a file holds exactly one.")
    return classes[0]


def _methods_of(values: Iterable[Any], module: str) -> list[type[Method]]:
    return [
        v
        for v in values
        if isinstance(v, type)
        and issubclass(v, Method)
        and v.__module__ == module
        and not v.__name__.startswith("_")
    ]


def _imported(spec: str) -> type[Method]:
    return _checked(import_object(spec, ExpungeError), f"'{spec}'")


def _checked(value: Any, shown: str) -> type[Method]:
    if isinstance(value, type) and issubclass(value, Method):
        return value
    raise ExpungeError(f"{shown} is no method; give a subclass of expunge.Method.")
