"""The options of a session: their types and values, checked together."""

from __future__ import annotations

from collections.abc import Callable
from inspect import signature
from types import NoneType
from typing import Any

from torch import nn

from ..data.waiting import WaitingRequest
from ..errors import raise_all
from ..methods.retrain import Retrain
from ..tasks.classification import Classification
from ..tasks.task import Task
from ..torch_utils.module_state import seed_problems
from ..training.run import Compute
from ..tuning.search import AUTO

# What a factory is, for messages.
FACTORY = "a function without arguments that returns the model with fresh (untrained) parameters, such as lambda: MyModel()"
# Types of the options. Their values are checked where they are used.
_TYPES: dict[str, tuple[Any, ...]] = {
    "validation": (int, float),
    "validation_from": (str,),
    "split_seed": (int,),
    "seed": (int,),
    "compute": (Compute,),
    "rehearse": (bool,),
    "recipe": (Retrain, NoneType),
    "measures": (list, tuple),
    "trials": (int, str, NoneType),
    "copies": (str, NoneType),
    "fixed": (list, tuple),
    "max_loss": (int, float),
    "names": (dict, NoneType),
    "command": (str,),
    "held_out": (frozenset, NoneType),
    "returned": (NoneType,),
    "waiting": (list, tuple),
    "factory": (Callable, NoneType),
    "on_row": (Callable, NoneType),
}


def check_options(model: Any, task: Any, options: dict[str, Any]) -> None:
    """Raise `ExpungeError` with every argument of a wrong type."""
    problems = []
    if not isinstance(model, nn.Module):
        problems.append(f"the model is a {type(model).__name__}; give a trained torch.nn.Module.")
    if not isinstance(task, Task):
        problems.append(f"the task is {task!r}; give a task such as Classification(num_classes=10).")
    elif isinstance(task, Classification) and type(task.num_classes) is not int:
        problems.append(f"num_classes of the task is {task.num_classes!r}; give a whole number.")
    problems += [
        f"{name} is {options[name]!r}; give {' or '.join('None' if t is NoneType else t.__name__ for t in types)}."
        for name, types in _TYPES.items()
        if name in options
        and (not isinstance(options[name], types) or (bool not in types and isinstance(options[name], bool)))
    ]
    raise_all(problems)
    raise_all(_value_problems(options))


def _value_problems(options: dict[str, Any]) -> list[str]:
    """Return which options of the right types have wrong values, one sentence each."""
    problems = [
        f"{name}: {text}"
        for name in ("seed", "split_seed")
        if name in options
        for text in seed_problems(options[name])
    ]
    share, source = options.get("validation", 0.0), options.get("validation_from", "train")
    if not 0 <= share < 1:
        problems.append(f"validation is {share}; give a share from 0 to below 1.")
    if source not in ("train", "test"):
        problems.append(f"validation_from is {source!r}; give train or test.")
    if (copies := options.get("copies")) not in (None, "include", "report", "ignore"):
        problems.append(f"copies is {copies!r}; give include, report or ignore.")
    problems += _factory_problems(options)
    trials = options.get("trials")
    if trials != AUTO and trials is not None and (isinstance(trials, str) or trials < 0):
        problems.append(f"trials is {trials!r}; give {AUTO!r} or a whole number, 0 or more.")
    if not 0 <= options.get("max_loss", 0) <= 100:
        problems.append(f"max_loss is {options['max_loss']}; give percentage points from 0 to 100.")
    for name, kind in (("measures", (str, type)), ("fixed", (str,)), ("waiting", (WaitingRequest,))):
        wrong = [value for value in options.get(name, ()) if not isinstance(value, kind)]
        if name == "measures":
            wrong = [value for value in wrong if not hasattr(value, "glossary")]
        problems += [
            f"{name} has {value!r}; give {' or '.join(k.__name__ for k in kind)}." for value in wrong
        ]
    return problems


def _factory_problems(options: dict[str, Any]) -> list[str]:
    """Return why a session could not retrain its reference: a run would find it only after it was asked for a request."""
    factory, need = options.get("factory"), f"give factory, {FACTORY}"
    if options.get("recipe") is not None and factory is None:
        return [
            f"recipe is given, and factory is not: a reference is retrained from fresh parameters; {need}, or leave recipe out."
        ]
    if isinstance(factory, nn.Module):
        return [f"factory is a model ({type(factory).__name__}), whose parameters may be trained; {need}."]
    if factory is None:
        return []
    try:
        signature(factory).bind()
    except TypeError as error:
        return [f"factory cannot be called without arguments ({error}); {need}."]
    except ValueError:
        # a callable of another language has no signature
        pass
    return []
