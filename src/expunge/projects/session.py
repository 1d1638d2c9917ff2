"""`Session`: answer deletion requests for a model in memory, without a folder."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from ..data.convert import as_data
from ..data.past_requests import PastRequest, remember_requests, requests_of
from ..data.sample_contents import compare_again
from ..data.samples import Samples
from ..data.split import Split
from ..errors import ExpungeError
from ..records.hashing import state_hash
from ..report import write_report
from ..sources.loading import load
from ..sources.source import Source
from ..tasks.task import Task
from ..torch_utils.prepared import plain_model
from ..tracking.by_name import TrackerLike, make_trackers
from ..training.registry import MethodLike, make
from ..tuning.search import AUTO, count_for
from .answer import answer, watched
from .answered import Answer, NotAnswered, Setting
from .arguments import path_of
from .earlier import covers
from .session_options import check_options
from .turns import Turn
from .wanted import wanted


class Session:
    """Hold a model and its data, and answer requests one after the other.

    Threads may share a session: one of them answers a request at a time, and the others wait.

    Args:
        model: The trained model. It is left as it was.
        data: A data spec such as "digits", a `Source`, or a pair (train, test) of what `as_data` takes.
        task: The task of the model.
        method: The method that answers requests. Given by name or class, each run chooses its settings (`trials="auto"`). An
            instance runs with exactly its settings.
        tracker: Watches each run: "tensorboard:DIR", "mlflow:URI", "wandb:PROJECT", a `Tracker`, or several of them.
        options: Other fields of `Setting`, such as `seed` or `validation`. `recipe` (for a reference) needs `factory`, a function that
            returns the model with fresh parameters.

    Raises:
        ExpungeError: An argument has a wrong type, the model does not fit task and data, or `recipe` is given without `factory`.

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
        check_options(model, task, options)
        try:
            options = {"trials": count_for(method, AUTO), **options}
            self.setting = Setting(train=train, test=test, task=task, method=make(method), **options)
        except TypeError as error:
            raise ExpungeError(f"{error}; give fields of `Setting`.") from error
        # a wrong task is found here, and not in the middle of the first request
        task.check(model, Samples(train, torch.arange(len(train))))
        self._turn = Turn()
        # the user may train this model on, or replace it
        self._model = remember_requests(copy.deepcopy(model), requests_of(model))
        self._known = requests_of(model)
        self.answers: list[Answer] = []
        # why runs answered no request
        self.refusals: list[str] = []

    def __repr__(self) -> str:
        return f"Session({type(self.model).__name__}, {len(self.requests)} requests)"

    @property
    def model(self) -> nn.Module:
        """The latest model. Another one may take its place; a thread that sets it waits for the request that is being answered."""
        return self._model

    @model.setter
    def model(self, model: nn.Module) -> None:
        if not isinstance(model, nn.Module):
            raise ExpungeError(f"the model is a {type(model).__name__}; give a trained torch.nn.Module.")
        with self._turn:
            self._model = model

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
            The answer. `model` is then its model. If an earlier answer of the session removed all samples already, and `model` is
            as the latest answer left it, nothing is run and that answer is returned, with a warning.

        Raises:
            NotAnswered: The run diverged, changed nothing, did harm or forgot nothing. The session stays as it was.
            ExpungeError: The request cannot be drawn, or the method does not fit. The session stays as it was.
        """
        with self._turn:
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
                    found = answer(self._start(), [request], setting, [split])
                except NotAnswered as error:
                    self.refusals += error.problems
                    raise
                tracking.take_record(found.record)
            self._model, self._known = found.model, requests_of(found.model)
            self.answers.append(found)
            return found

    def _start(self) -> nn.Module:
        """Return the model to unlearn from. One that replaced the model of the session gets the requests that it lacks."""
        if not (missing := self._missing()):
            return self.model
        warnings.warn(
            f"the model of the session was replaced, and the new one has not answered {missing:,} of {len(self._known):,} earlier "
            "requests. Their samples stay out of training; `came_back` of the answer says which of them the model recognises.",
            RuntimeWarning,
            stacklevel=3,
        )
        return remember_requests(copy.deepcopy(self.model), [*self._known, *self.requests])

    def _missing(self) -> int:
        """Return how many requests of the session the present model has not answered."""
        return len({past.request for past in self._known} - {past.request for past in self.requests})

    def _is_as_left(self) -> bool:
        """Return whether the model is the one that the latest answer left: its parameters and buffers, and all requests."""
        return (
            bool(self.answers)
            and not self._missing()
            and self.answers[-1].record.model["hash_after"] == state_hash(self.model.state_dict())
        )

    def _earlier(self, split: Split) -> Answer | None:
        """Return the latest answer that removed all that a split asks for and whose samples have not come back."""
        returned = {entry["request"] for entry in self.answers[-1].came_back} if self.answers else set()
        answered = (*self._known, *self.requests)
        known = {name for past in answered if past.request in returned for name in past.ids}
        if not known.isdisjoint(split.as_request("").ids):
            return None
        for found in reversed(self.answers):
            if any(covers(past, split) and past.request not in returned for past in found.requests):
                if self._is_as_left():
                    return found
                warnings.warn(
                    "an earlier request removed all these samples already, and the model of the session was trained on or replaced since "
                    "the latest answer. So they are unlearned again.",
                    RuntimeWarning,
                    stacklevel=3,
                )
                return None
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
