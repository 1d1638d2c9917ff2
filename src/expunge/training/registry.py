"""Find methods by name."""

from __future__ import annotations

import importlib
import json
import pkgutil
from dataclasses import fields

from .. import methods
from ..errors import ExpungeError
from ..records.checkpoint import Checkpoint
from .method import Method


def names() -> list[str]:
    """The names of all methods: the files of `expunge/methods`."""
    return sorted(m.name for m in pkgutil.iter_modules(methods.__path__) if not m.name.startswith("_"))


def find(name: str) -> type[Method]:
    """The method of this name. Raises `ExpungeError` with the known names."""
    if name not in names():
        raise ExpungeError(f"there is no method '{name}'; known: {', '.join(names())}.")
    module = importlib.import_module(f"{methods.__name__}.{name}")
    found = [
        v
        for v in vars(module).values()
        if isinstance(v, type)
        and issubclass(v, Method)
        and v.__module__ == module.__name__
        and not v.__name__.startswith("_")
    ]
    if len(found) != 1:
        raise ExpungeError(f"methods/{name}.py defines {len(found)} methods; a file holds exactly one.")
    return found[0]


def not_for(kind: type[Method], task: str) -> str:
    """The sentence for a method that is asked to work on a kind of model that it does not serve."""
    where = "see `expunge methods`"
    if kind.tasks == ("diffusion",):
        where = "the commands for diffusion models are `expunge unlearn-generator` and `expunge erase`"
    return f"{kind.__name__} serves {' and '.join(kind.tasks)}, not {task}; {where}."


def recipe(checkpoint: Checkpoint) -> Method | None:
    """How an original or a retrained model was trained; None where the metadata does not say, or another version wrote it."""
    metadata = checkpoint.metadata
    name = metadata.get("method", "") if metadata.get("kind") in ("original", "retrain") else "retrain"
    return _made(name, metadata.get("recipe"))


def method(checkpoint: Checkpoint) -> Method | None:
    """The method that made an unlearned or retrained model; None for an original, and where the metadata does not say."""
    metadata = checkpoint.metadata
    return (
        None
        if metadata.get("kind") == "original"
        else _made(metadata.get("method", ""), metadata.get("settings"))
    )


def _made(name: str, settings: str | None) -> Method | None:
    """The method with the settings of a checkpoint's metadata."""
    if settings is None or name not in names():
        return None
    kind = find(name)
    try:
        given = json.loads(settings)
    except ValueError:
        return None
    if not isinstance(given, dict) or set(given) - {f.name for f in fields(kind)}:
        return None
    try:
        made = kind(**{k: tuple(v) if isinstance(v, list) else v for k, v in given.items()})
        return None if made.problems() else made
    except TypeError:
        return None
