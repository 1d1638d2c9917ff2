"""Check the arguments of the functions that users call, all at once and before anything is done."""

from __future__ import annotations

import os
from collections.abc import Mapping
from numbers import Integral
from typing import Any

from torch import nn

from ..data.split import Split
from ..errors import ExpungeError, raise_all
from ..summaries import short
from ..tasks.model_checks import no_parameters
from ..tasks.task import Task
from ..torch_utils.module_state import seed_problems
from .run import Compute

# argument -> (its type, what to give)
KINDS: dict[str, tuple[type | tuple[type, ...], str]] = {
    "model": (nn.Module, "a model (nn.Module)"),
    "split": (Split, "a Split, for example Split.by_class(train, test, forget=3)"),
    "task": (Task, "a task, for example Classification(10)"),
    "compute": (Compute, "a Compute, for example Compute(amp='bf16')"),
    "mask": (Mapping, "a Mask, or a dictionary {parameter name: bool tensor}"),
    "state_file": ((str, os.PathLike), "a path"),
    "trials_file": ((str, os.PathLike), "a path"),
}
CALLABLE = {
    "factory": "a function without arguments that returns a model with fresh parameters",
    "on_row": "a function of one row",
    "on_step": "a function of one step",
    "on_trial": "a function of the list of trials",
    "on_outcome": "a function of label and outcome",
}
OPTIONAL = ("compute", "mask", "state_file", "trials_file", *CALLABLE)


def argument_problems(**arguments: Any) -> list[str]:
    """Return what is wrong with arguments, one sentence each.

    Args:
        arguments: {name: value}. The names are those of `KINDS` and `CALLABLE`, and "seed".
    """
    problems = []
    for name, value in arguments.items():
        if name == "seed":
            # the range is checked with the settings
            whole = isinstance(value, Integral) and not isinstance(value, bool)
            problems += [] if whole else seed_problems(value)
        elif name in CALLABLE:
            # a module is callable, but it makes no model
            if value is not None and (not callable(value) or isinstance(value, nn.Module)):
                problems.append(_wrong(name, value, CALLABLE[name]))
        elif not (isinstance(value, KINDS[name][0]) or (value is None and name in OPTIONAL)):
            problems.append(_wrong(name, value, KINDS[name][1]))
        elif isinstance(value, Task):
            problems += _task_problems(value)
        elif isinstance(value, nn.Module) and not list(value.parameters()):
            problems.append(no_parameters(value))
    return problems


def _task_problems(task: Task) -> list[str]:
    problems, kind, count = [], type(task).__name__, task.num_classes
    if not isinstance(getattr(task, "name", None), str):
        problems.append(
            f'the task {kind} has no name; set `name` to a text, for example name = "{kind.lower()}".'
        )
    if not isinstance(count, Integral) or isinstance(count, bool) or count < 0:
        problems.append(f"num_classes of the task {kind} is {count!r}; it must be a whole number.")
    return problems


def check_arguments(**arguments: Any) -> None:
    """Raise `ExpungeError` with every argument that has the wrong type. Arguments are those of `argument_problems`."""
    raise_all(argument_problems(**arguments), ExpungeError)


def wrong_argument(name: str, value: Any, kind: type | tuple[type, ...], allowed: str) -> list[str]:
    """Return one sentence if `value` is neither None nor of a kind."""
    return [] if value is None or isinstance(value, kind) else [_wrong(name, value, allowed)]


def _wrong(name: str, value: Any, allowed: str) -> str:
    return f"{name} is {_described(value)}; give {allowed}.{_hint(name, value)}"


def _described(value: Any) -> str:
    if isinstance(value, type):
        return f"the class {value.__name__}"
    if value is None or isinstance(value, str | int | float | bool):
        return short(repr(value), 60)
    article = "an" if type(value).__name__[0] in "AEIOUaeiou" else "a"
    return f"{article} {type(value).__name__}"


def _hint(name: str, value: Any) -> str:
    """What to do with a value that is close to the right one."""
    if name == "model" and hasattr(value, "model") and isinstance(value.model, nn.Module):
        return " Its `model` is one."
    if name == "model" and isinstance(value, Mapping):
        return " Load a state dict into a model with model.load_state_dict(...)."
    if name == "split" and isinstance(value, nn.Module | Task):
        return " The order of arguments is model, split, method, task."
    if name == "mask" and isinstance(value, str | os.PathLike):
        return " Read a file with expunge.masks.Mask.load(path)."
    return ""
