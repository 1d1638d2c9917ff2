"""`Session`: answer deletion requests for a model in memory, without a folder."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from types import NoneType
from typing import Any, Literal

import torch
from torch import nn

from ..data.convert import as_data
from ..data.past_requests import PastRequest, remember_requests, requests_of
from ..data.sample_contents import compare_again
from ..data.samples import Samples
from ..data.split import Split
from ..data.waiting import WaitingRequest
from ..errors import ExpungeError, raise_all
from ..methods.retrain import Retrain
from ..report import write_report
from ..sources.loading import load
from ..sources.source import Source
from ..tasks.classification import Classification
from ..tasks.task import Task
from ..torch_utils.module_state import seed_problems
from ..torch_utils.prepared import plain_model
from ..tracking.by_name import TrackerLike, make_trackers
from ..training.registry import MethodLike, make
from ..training.run import Compute
from ..tuning.search import AUTO, count_for
from .answer import answer, watched
from .answered import Answer, NotAnswered, Setting
from .arguments import path_of
from .earlier import covers
from .wanted import wanted


class Session:
    """Hold a model and its data, and answer requests one after the other.

    Args:
        model: The trained model. It is left as it was.
        data: A data spec such as "digits", a `Source`, or a pair (train, test) of what `as_data` takes.
        task: The task of the model.
        method: The method that answers requests. Given by name or class, each run chooses its settings (`trials="auto"`). An
            instance runs with exactly its settings.
        tracker: Watches each run: "tensorboard:DIR", "mlflow:URI", "wandb:PROJECT", a `Tracker`, or several of them.
        options: Other fields of `Setting`, such as `seed`, `recipe` (for a reference) or `validation`.

    Raises:
        ExpungeError: An argument has a wrong type, or the model does not fit task and data.

    Example:
        >>> session = Session(model, (train, test), Classification(10))  # doctest: +SKIP
        >>> session.forget(ids=["user-17", "user-230"])  # doctest: +SKIP
        >>> session.report("report.html")  # doctest: +SKIP
    """

    def __init__(
        self,
        model: nn.Module,
        data: Any,
        task: Task,
        method: MethodLike = "salun",
        *,
        tracker: TrackerLike = None,
        **options: Any,
    ):
        self.trackers = make_trackers(tracker)
        source = load(data) if isinstance(data, str) else data
        if isinstance(source, Source):
            train, test = source.train, source.test
        elif isinstance(source, tuple) and len(source) == 2:
            train, test = (as_data(part) for part in source)
        else:
            raise ExpungeError(
                "the data is no pair of training and test data; give (train, test), or a data spec."
            )
        model = plain_model(model)
        _check(model, task, options)
        try:
            options = {"trials": count_for(method, AUTO), **options}
            self.setting = Setting(train=train, test=test, task=task, method=make(method), **options)
        except TypeError as error:
            raise ExpungeError(f"{error}; give fields of `Setting`.") from error
        # a wrong task is found here, and not in the middle of the first request
        task.check(model, Samples(train, torch.arange(len(train))))
        self.model = remember_requests(copy.deepcopy(model), requests_of(model))
        self.answers: list[Answer] = []
        # why runs answered no request
        self.refusals: list[str] = []

    def __repr__(self) -> str:
        return f"Session({type(self.model).__name__}, {len(self.requests)} requests)"

    @property
    def requests(self) -> tuple[PastRequest, ...]:
        """The requests that the model has answered, the first one first."""
        return requests_of(self.model)

    def forget(
        self,
        *,
        ids: Iterable[str | int] | None = None,
        classes: str | int | Iterable[str | int] | None = None,
        group: str = "",
        goal: Literal["untrain", "unlearn"] | None = None,
        method: MethodLike | None = None,
    ) -> Answer:
        """Unlearn what a request names from the latest model, and audit it with all earlier requests.

        Args:
            ids: Ids of samples, or positions if the data has no ids.
            classes: Class names or numbers.
            group: Group as COLUMN=VALUE.
            goal: "untrain" or "unlearn". By default "unlearn" for classes and "untrain" for all else.
            method: Another method than that of the session.

        Returns:
            The answer. `model` is then its model. If an earlier answer of the session removed all samples already, nothing is
            run and that answer is returned, with a warning.

        Raises:
            NotAnswered: The run diverged, changed nothing, did harm or forgot nothing. The session stays as it was.
            ExpungeError: The request cannot be drawn, or the method does not fit. The session stays as it was.
        """
        setting = self.setting
        if method is not None:
            setting = replace(setting, method=make(method), trials=count_for(method, AUTO))
        request = wanted(ids=ids, classes=classes, group=group, goal=goal)
        compare_again(setting.train)
        split = setting.draw(request)
        if (earlier := self._earlier(split)) is not None:
            warnings.warn(
                "an earlier request removed all these samples already; its answer is returned, with the scores of all its samples, and "
                "nothing was run.",
                RuntimeWarning,
                stacklevel=2,
            )
            return earlier
        with watched(self.trackers, setting, [split]) as (setting, tracking):
            try:
                found = answer(self.model, [request], setting, [split])
            except NotAnswered as error:
                self.refusals += error.problems
                raise
            tracking.take_record(found.record)
        self.model = found.model
        self.answers.append(found)
        return found

    def _earlier(self, split: Split) -> Answer | None:
        """Return the latest answer that removed all that a split asks for and whose samples have not come back."""
        returned = {entry["request"] for entry in self.answers[-1].came_back} if self.answers else set()
        known = {name for past in self.requests if past.request in returned for name in past.ids}
        if not known.isdisjoint(split.as_request("").ids):
            return None
        for found in reversed(self.answers):
            if any(covers(past, split) and past.request not in returned for past in found.requests):
                return found
        return None

    def report(self, path: Path | str, *, show_forgotten: bool = False) -> Path:
        """Write the report of all answers as one HTML file, and return its path. Raises `ExpungeError` without any answer.

        Args:
            path: The file.
            show_forgotten: Show up to 12 forgotten samples of each run, with picture, id and predictions.
        """
        path = path_of("the report", path)
        if not self.answers:
            start = "there is nothing to report on"
            raise ExpungeError([f"{start}: {t}" for t in self.refusals] or f"{start}; call `forget` first.")
        shown = [a.outcome.shown_record if show_forgotten else a.record for a in self.answers]
        records = [self.answers[0].outcomes[0].record, *shown]
        return write_report(path, records)


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


def _check(model: Any, task: Any, options: dict[str, Any]) -> None:
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
