"""Answer requests with one run: unlearn their union, audit it with all earlier requests, remember each on its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn

from ..audit.evaluation import Evaluation
from ..audit.mia import members_and_nonmembers, svm_calls_nonmember
from ..data.past_requests import PastRequest, remember_requests, requests_of
from ..data.samples import Data
from ..data.split import Split
from ..errors import ExpungeError
from ..methods.retrain import Retrain
from ..pipeline.outcome import Outcome, Reference
from ..pipeline.pipeline import Pipeline
from ..records.record import Record
from ..tasks.task import Task
from ..training.method import Method
from ..training.run import Compute, Run
from .wanted import Wanted, union_of


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What all requests of a project or session share.

    Args:
        train: Training data.
        test: Test data.
        task: Task of the model.
        method: The method.
        validation: Share of each class that the original never saw.
        split_seed: Seed of the validation set.
        seed: Seed of everything random in a run.
        compute: How the arithmetic is done.
        rehearse: Whether a run also works on the samples of earlier requests.
        recipe: Recipe of a reference that is retrained without the union of all requests. None for no reference.
        factory: Makes a model with fresh parameters, for the reference.
        measures: Extra measures.
        names: Names of model, data and classes, for records.
        command: The command as it can be typed again, for records.
    """

    train: Data
    test: Data
    task: Task
    method: Method
    validation: float = 0.0
    split_seed: int = 0
    seed: int = 0
    compute: Compute = field(default_factory=Compute)
    rehearse: bool = False
    recipe: Retrain | None = None
    factory: Callable[[], nn.Module] | None = None
    measures: Sequence[str] = ()
    names: dict[str, Any] | None = None
    command: str = ""

    def draw(self, request: Wanted) -> Split:
        """Draw the split of one request."""
        return request.draw(self.train, self.test, validation=self.validation, seed=self.split_seed)

    def union(self, splits: Sequence[Split]) -> Split:
        """Return the split of several requests together."""
        return union_of(splits, self.train, self.test, validation=self.validation, seed=self.split_seed)


@dataclass(eq=False)
class Answer:
    """What a run for one or several requests left.

    Args:
        outcomes: The model before, the reference if there was one, and the unlearned model, with their records.
        splits: The split of each request, in order.
        requests: The requests as the model remembers them, in order, with the UA and MIA of this audit.
    """

    outcomes: list[Outcome]
    splits: list[Split]
    requests: list[PastRequest]

    def __repr__(self) -> str:
        return f"Answer({len(self.requests)} requests)\n{self.outcomes[-1]!r}"

    @property
    def outcome(self) -> Outcome:
        """The outcome of the run."""
        return self.outcomes[-1]

    @property
    def record(self) -> Record:
        """The record of the run."""
        return self.outcome.record

    @property
    def model(self) -> nn.Module:
        """The unlearned model."""
        return self.outcome.model

    @property
    def scores(self) -> dict[str, Any]:
        """The scores of the audit, in percent."""
        return self.record.scores

    @property
    def earlier(self) -> list[dict[str, Any]]:
        """The scores of every earlier request under the new model."""
        return list(self.record.details.get("earlier_requests", []))

    @property
    def came_back(self) -> list[dict[str, Any]]:
        """The earlier requests that the new model recognises again."""
        return [entry for entry in self.earlier if entry.get("came_back")]


def answer(model: nn.Module, requests: Sequence[Wanted], setting: Setting) -> Answer:
    """Answer requests with one run.

    Args:
        model: The latest model, with the requests that it has answered (`remember_requests`). It is left as it was.
        requests: The requests. The method gets the union of their samples as its forget set.
        setting: Data, task, method and seeds.

    Raises:
        ExpungeError: A request cannot be drawn, the method does not fit, or the run changed nothing.
    """
    splits = [setting.draw(request) for request in requests]
    union = setting.union(splits).after(requests_of(model), rehearse=setting.rehearse)
    earlier = [e.past for e in union.earlier]
    outcomes = Pipeline(
        split=union,
        task=setting.task,
        factory=setting.factory,
        recipe=setting.recipe,
        seed=setting.seed,
        compute=setting.compute,
        names=setting.names,
        command=setting.command,
        measures=setting.measures,
    ).run(
        {setting.method.name(): setting.method},
        original=lambda: Reference(Run(model, union, setting.task, setting.seed)),
        retrained=None if setting.recipe is not None else lambda _: None,
    )
    outcome = outcomes[-1]
    _refuse_failed(outcome)
    new = _each(splits, outcome)
    hashes = {past.request for past in new}
    remember_requests(outcome.model, [*(p for p in earlier if p.request not in hashes), *new])
    return Answer(outcomes, splits, new)


def _refuse_failed(outcome: Outcome) -> None:
    """Raise `ExpungeError` for a run that diverged or changed nothing: it answers no request."""
    record = outcome.record
    unchanged = record.model.get("hash_before") == record.model.get("hash_after")
    if record.ended in ("diverged", "unchanged") or unchanged:
        raise ExpungeError(
            f"the run answers no request: {record.status}. Nothing was kept; change the settings of {record.method} and run again."
        )


def _each(splits: Sequence[Split], outcome: Outcome) -> list[PastRequest]:
    """Return each request with its own UA and MIA."""
    name = outcome.record.method
    requests = [split.as_request(name) for split in splits]
    evaluation = outcome.evaluation
    if not isinstance(evaluation, Evaluation):
        return requests
    if len(splits) == 1:
        scores = {k: evaluation.scores[k] for k in ("UA", "MIA")}
        return [replace(requests[0], scores=scores)]
    member, nonmember = members_and_nonmembers(
        len(evaluation.retain.labels), len(evaluation.test.labels), seed=evaluation.seed
    )
    called = svm_calls_nonmember(
        evaluation.retain.confidence.numpy()[member],
        evaluation.test.confidence.numpy()[nonmember],
        evaluation.forget.confidence.numpy(),
    )
    scored = []
    for split, request in zip(splits, requests, strict=True):
        own = torch.isin(outcome.run.split.forget.index, split.forget.index)
        correct = evaluation.forget.correct[own].double().mean().item()
        scores = {"UA": 100 - 100 * correct, "MIA": 100 * float(called[own.numpy()].mean())}
        scored.append(replace(request, scores=scores))
    return scored
