"""Requests one after the other in Python, without a folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from ..data.convert import as_data
from ..data.past_requests import PastRequest, requests_of
from ..data.split import Split
from ..errors import ExpungeError
from ..pipeline.outcome import Outcome, Reference
from ..pipeline.pipeline import Pipeline
from ..report import write_report
from ..summaries import summary
from ..tasks.task import Task
from ..training.registry import MethodLike, make
from ..training.run import Compute, Run


class Session:
    """Keep a model and the requests it has answered, in memory.

    Args:
        model: A trained model. It stays as it was.
        train: Its training data, whatever `as_data` takes.
        test: Test data.
        task: The task of the model.
        method: The method for all requests: a method, its class or its name.
        validation: Share of each class that the model was not trained on and that tuning may use. 0 if it saw all samples.
        seed: Seed of the validation draw and of the runs.
        compute: How the arithmetic is done.
        rehearse: Whether each run forgets the samples of earlier requests again.

    Example:
        >>> session = Session(model, (x, y), (x_test, y_test), Classification(10))  # doctest: +SKIP
        >>> session.forget(ids=["17", "230"])  # doctest: +SKIP
        >>> session.forget(classes=[3])  # doctest: +SKIP
        >>> session.report("report.html")  # doctest: +SKIP
    """

    def __init__(
        self,
        model: nn.Module,
        train: Any,
        test: Any,
        task: Task,
        *,
        method: MethodLike = "salun",
        validation: float = 0.0,
        seed: int = 0,
        compute: Compute | None = None,
        rehearse: bool = False,
    ):
        self.original = self.model = model
        self.train, self.test, self.task = as_data(train), as_data(test), task
        self.method, self.compute, self.rehearse = make(method), compute, rehearse
        self.options: dict[str, Any] = {"validation": validation, "seed": seed}
        self.outcomes: list[Outcome] = []

    def __repr__(self) -> str:
        return summary(
            f"Session({type(self.model).__name__}, {self.method.name()}, {len(self.requests)} requests answered)",
            *(repr(r) for r in self.requests[-8:]),
        )

    @property
    def requests(self) -> tuple[PastRequest, ...]:
        """The requests that the model has answered, the first one first."""
        return requests_of(self.model)

    def forget(
        self,
        *,
        ids: Sequence[str | int] = (),
        classes: Sequence[str | int] = (),
        group: tuple[str, Sequence[str]] | None = None,
        method: MethodLike | None = None,
    ) -> Outcome:
        """Answer one request: unlearn, audit it and all earlier requests, and go on with the new model.

        Args:
            ids: Ids of samples, or positions if the data has no ids.
            classes: Classes, by name or number.
            group: Column and values of a group, such as ("user", ["alice"]).
            method: Another method for this request.

        Returns:
            The run with its record. `outcome.audit.details["earlier_requests"]` has the earlier requests.

        Raises:
            ExpungeError: Not exactly one of ids, classes and group is given, or the method cannot run.
        """
        split = self._draw(ids, classes, group)
        seed, model = self.options["seed"], self.model
        chosen = self.method if method is None else make(method)
        pipeline = Pipeline(
            split=replace(split, rehearse=self.rehearse), task=self.task, seed=seed, compute=self.compute
        )
        start = Reference(Run(model, split, self.task, seed))
        outcome = pipeline.run({chosen.name(): chosen}, original=lambda: start, retrained=lambda _: None)[-1]
        self.model = outcome.model
        self.outcomes.append(outcome)
        return outcome

    def report(self, path: str | Path) -> Path:
        """Write the HTML report of all requests, and return its path.

        Raises:
            ExpungeError: No request was answered yet, or nothing can be written there.
        """
        return write_report(path, [outcome.record for outcome in self.outcomes])

    def _draw(self, ids: Any, classes: Any, group: Any) -> Split:
        given = [
            name
            for name, v in (("ids", ids), ("classes", classes), ("group", group))
            if v is not None and len(v)
        ]
        if len(given) != 1:
            raise ExpungeError(
                f"{len(given)} of ids, classes and group are given ({', '.join(given) or 'none'}); give exactly one."
            )
        if given == ["classes"]:
            return Split.by_class(self.train, self.test, classes, **self.options)
        if given == ["group"]:
            return Split.by_group(self.train, self.test, group[0], group[1], **self.options)
        return Split.by_ids(self.train, self.test, ids, **self.options)
