"""`Session`: answer deletion requests for a model in memory, without a folder."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from torch import nn

from ..data.convert import as_data
from ..data.past_requests import PastRequest, remember_requests, requests_of
from ..errors import ExpungeError
from ..report import write_report
from ..sources.loading import load
from ..sources.source import Source
from ..tasks.task import Task
from ..training.registry import MethodLike, make
from .answer import answer
from .answered import Answer, Setting
from .wanted import wanted


class Session:
    """Hold a model and its data, and answer requests one after the other.

    Args:
        model: The trained model. It is left as it was.
        data: A data spec such as "digits", a `Source`, or a pair (train, test) of what `as_data` takes.
        task: The task of the model.
        method: The method that answers requests.
        options: Other fields of `Setting`, such as `seed`, `recipe` (for a reference) or `validation`.

    Example:
        >>> session = Session(model, (train, test), Classification(10))  # doctest: +SKIP
        >>> session.forget(ids=["user-17", "user-230"])  # doctest: +SKIP
        >>> session.report("report.html")  # doctest: +SKIP
    """

    def __init__(self, model: nn.Module, data: Any, task: Task, method: MethodLike = "salun", **options: Any):
        source = load(data) if isinstance(data, str) else data
        if isinstance(source, Source):
            train, test = source.train, source.test
        elif isinstance(source, tuple) and len(source) == 2:
            train, test = (as_data(part) for part in source)
        else:
            raise ExpungeError(
                "the data is no pair of training and test data; give (train, test), or a data spec."
            )
        self.model = remember_requests(copy.deepcopy(model), requests_of(model))
        try:
            self.setting = Setting(train=train, test=test, task=task, method=make(method), **options)
        except TypeError as error:
            raise ExpungeError(f"{error}; give fields of `Setting`.") from error
        self.answers: list[Answer] = []

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
            The answer. `model` is then its model.

        Raises:
            ExpungeError: The request cannot be drawn or the run failed. The session stays as it was.
        """
        setting = self.setting if method is None else replace(self.setting, method=make(method))
        found = answer(self.model, [wanted(ids=ids, classes=classes, group=group, goal=goal)], setting)
        self.model = found.model
        self.answers.append(found)
        return found

    def report(self, path: Path | str) -> Path:
        """Write the report of the last answers as one HTML file, and return its path."""
        if not self.answers:
            raise ExpungeError("there is nothing to report on; call `forget` first.")
        records = [self.answers[0].outcomes[0].record, *(a.record for a in self.answers)]
        return write_report(path, records)
