"""Find methods: those of `expunge/methods`, of installed packages, and of the user's own modules."""

from __future__ import annotations

import json
from dataclasses import fields
from typing import Any, TypeAlias

from ..extensions import Extensions
from ..own_code import PACKAGE, source_of
from ..records.checkpoint import Checkpoint
from ..tasks import BUILT_IN
from ..tasks.task import Task, missing_capabilities, missing_text
from .method import Method
from .method_class import check_method_class, made_by_default

__all__ = [
    "METHODS",
    "MethodLike",
    "find",
    "make",
    "method_from_metadata",
    "names",
    "recipe_from_metadata",
    "served_tasks",
    "serves",
    "source_of",
    "unsuited_text",
]

METHODS: Extensions[Method] = Extensions(Method, "method", f"{PACKAGE}.methods", "expunge.methods")

MethodLike: TypeAlias = Method | type[Method] | str


def names() -> list[str]:
    """Return the names of all methods: the files of `expunge/methods`, and the entry points of installed packages."""
    return METHODS.names()


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
    cls = METHODS.find(name)
    check_method_class(cls)
    return cls


def make(method: MethodLike) -> Method:
    """Return an instance: the one given, or one with the default settings of a class or name. Raises `ExpungeError`."""
    cls = find(method)
    return method if isinstance(method, Method) else made_by_default(cls)


def served_tasks(method: type[Method]) -> list[str]:
    """Return the names of the built-in tasks that offer what a method needs."""
    return [task.name for task in BUILT_IN if not missing_capabilities(task, method.needs)]


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
    # a user's own task exists only in Python
    instead = (
        f" On the command line it works with {' and '.join(served)}."
        if served and task.name in commands
        else ""
    )
    missing = missing_capabilities(task, method.needs)
    name = task.__name__ if isinstance(task, type) else type(task).__name__
    pieces = missing_text(method.__name__, task.name, name, missing)
    return pieces + instead


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
    method: Any = find(name)
    try:
        values = json.loads(settings)
    except (ValueError, RecursionError):
        return None
    if isinstance(values, dict) and "paper_exact" in values:
        # the name in files of earlier versions
        values["paper"] = values.pop("paper_exact")
    if not isinstance(values, dict) or set(values) - {f.name for f in fields(method)}:
        return None
    try:
        made = method(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})
        return None if made.problems() else made
    except TypeError:
        return None
