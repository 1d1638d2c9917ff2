"""What the requests of a project share, and what the run that answered some of them left."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from ..data.copies import CopyHandling
from ..data.past_requests import PastRequest
from ..data.samples import Data
from ..data.split import Split
from ..data.validation_source import ValidationFrom
from ..data.waiting import WaitingRequest, leave_out
from ..errors import ExpungeError, UnlearningFailed, raise_all
from ..methods.retrain import Retrain
from ..pipeline.outcome import Outcome
from ..records.record import Record
from ..tasks.task import Task
from ..training.method import Method
from ..training.run import Compute, Row
from ..tuning.search import Count
from .entries import LARGEST_LOSS
from .held_out import hold_out, take_from_test
from .returned import ReturnedCopies
from .wanted import Wanted, union_of

# words of a verdict that the last lines of `forget` show
BAD_WORDS = {"utility lost", "under-forgotten", "over-forgotten"}


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What all requests of a project or session share.

    Args:
        train: Training data.
        test: Test data.
        task: Task of the model.
        method: The method.
        validation: Share of each class to draw for validation.
        validation_from: The set to draw it from: "train", of which the original never saw this share, or "test".
        split_seed: Seed of the validation set.
        copies: What is done about copies of forget samples: include, report or ignore. By default as `Split` does.
        seed: Seed of everything random in a run.
        compute: How the arithmetic is done.
        rehearse: Whether a run also works on the samples of earlier requests.
        recipe: Recipe of a reference that is retrained without the union of all requests. None for no reference.
        factory: Returns the model with fresh parameters, without arguments. A `recipe` needs it.
        measures: Extra measures.
        names: Names of model, data and classes, for records.
        command: The command as it can be typed again, for records.
        held_out: Ids of the validation set, if the data has changed since it was drawn. None to draw it.
        trials: Number of settings that a run tries on validation data: see `unlearn`. "auto" takes the adapted settings
            where there is nothing to choose them by, and never delivers the original.
        fixed: Settings of the method that trials keep.
        returned: Copies of samples that earlier requests removed. None if they were not looked for.
        waiting: Requests that wait. No run trains on their samples.
        max_loss: Points of test accuracy that a run may cost.
        on_row: Called with each row of the curves of the method, and not of the reference.
    """

    train: Data
    test: Data
    task: Task
    method: Method
    validation: float = 0.0
    validation_from: ValidationFrom = "train"
    split_seed: int = 0
    copies: CopyHandling | None = None
    seed: int = 0
    compute: Compute = field(default_factory=Compute)
    rehearse: bool = False
    recipe: Retrain | None = None
    factory: Callable[[], nn.Module] | None = None
    measures: Sequence[str] = ()
    names: dict[str, Any] | None = None
    command: str = ""
    held_out: frozenset[str] | None = None
    trials: Count = None
    fixed: Sequence[str] = ()
    returned: ReturnedCopies | None = None
    waiting: Sequence[WaitingRequest] = ()
    max_loss: float = LARGEST_LOSS
    on_row: Callable[[Row], None] | None = None

    def draw(self, request: Wanted) -> Split:
        """Draw the split of one request."""
        return self._adjusted(request.draw(self.train, self.test, copies=self.copies, **self._validation))

    def union(self, splits: Sequence[Split]) -> Split:
        """Return the split of several requests together."""
        if len(splits) == 1:
            return splits[0]
        return self._adjusted(union_of(splits, self.train, self.test, **self._validation))

    def for_run(self, splits: Sequence[Split], requests: Sequence[PastRequest]) -> Split:
        """Return the split of a run for several requests: without the samples of answered requests and of those that wait."""
        split = self.union(splits).after(requests, rehearse=self.rehearse)
        return leave_out(split, self.waiting)

    @property
    def _validation(self) -> dict[str, Any]:
        """How a split draws its validation set: not at all if its ids are known."""
        if self.held_out is not None:
            return {"validation": 0.0, "seed": self.split_seed}
        return {
            "validation": self.validation,
            "validation_from": self.validation_from,
            "seed": self.split_seed,
        }

    def _adjusted(self, split: Split) -> Split:
        """Return the split with the validation set of the first request, if the data has changed since, without returned copies."""
        if self.held_out is not None:
            settings = {"validation": self.validation, "seed": self.split_seed}
            if self.validation_from == "test":
                split = take_from_test(split, self.held_out, {**settings, "validation_from": "test"})
            else:
                split = hold_out(split, self.held_out, settings)
        return split if self.returned is None else self.returned.leave(split)


class NothingWaits(ExpungeError):
    """There is no request to answer."""


class StillOpen(ExpungeError):
    """Requests are open, and a run can answer none of them."""


def check_some(
    requests: Sequence[object], skipped: Sequence[str], say: Callable[[str], None] = lambda text: None
) -> None:
    """Tell why requests are skipped. Raise `StillOpen` with the reasons, or `NothingWaits` without any, if none is left."""
    if not requests:
        raise_all(skipped, StillOpen)
        raise NothingWaits("no request waits; there is nothing to answer.")
    for text in skipped:
        say(text)


class NotAnswered(UnlearningFailed):
    """A run that answers no request: it diverged, changed nothing, did harm, or forgot nothing.

    Args:
        reasons: Why, one sentence for each request.
        outcomes: What was run.
    """

    def __init__(self, reasons: Sequence[str], outcomes: Sequence[Outcome]):
        self.reasons, self.outcomes = list(reasons), list(outcomes)
        # the requests of a project
        self.entries: list[Any] = []
        method = outcomes[-1].record.method
        problems = [
            f"the run answers no request: {text.rstrip('.')}. The model stays as it was; change the settings of {method}, and run again."
            for text in dict.fromkeys(reasons)
        ]
        super().__init__(problems, outcomes[-1].run)


@dataclass(eq=False)
class Answer:
    """What a run for one or several requests left.

    Args:
        outcomes: The model before, the reference if there was one, and the unlearned model, with their records. Empty if an
            earlier run had removed all samples, so that nothing was run.
        splits: The split of each request, in order.
        requests: The requests as the model remembers them, in order, with the UA and MIA of this audit.
        kept: The model and the record of the earlier run, if nothing was run.
        parts: The scores and the verdict of each request (`Part`). Empty if nothing was run, or if the task has no scores.
        failures: {position among the requests that were asked for: why the run does not answer it}. Such a request is neither
            in `splits` nor in `requests`.
        skipped: Why other open requests were not answered, one sentence for each problem. They stay open.
        not_proved: What the ledger lacks to call the requests proved, one sentence for each request.
        entries: The requests of a project (`ProjectRequest`) that were to be answered, with their states.
    """

    outcomes: list[Outcome]
    splits: list[Split]
    requests: list[PastRequest]
    kept: tuple[nn.Module, Record] | None = None
    parts: list[Any] = field(default_factory=list)
    failures: dict[int, str] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)
    not_proved: list[str] = field(default_factory=list)
    entries: list[Any] = field(default_factory=list)

    def __repr__(self) -> str:
        last = repr(self.outcomes[-1]) if self.outcomes else "answered by an earlier run"
        return f"Answer({len(self.requests)} requests)\n{last}"

    @property
    def outcome(self) -> Outcome:
        """The outcome of the run. Raises `ExpungeError` if nothing was run."""
        if not self.outcomes:
            raise ExpungeError(
                "an earlier run had removed all samples, so nothing was run; use `record` and `model`."
            )
        return self.outcomes[-1]

    @property
    def record(self) -> Record:
        """The record of the run."""
        return self.kept[1] if self.kept else self.outcome.record

    @property
    def model(self) -> nn.Module:
        """The unlearned model."""
        return self.kept[0] if self.kept else self.outcome.model

    @property
    def scores(self) -> dict[str, Any]:
        """The scores of the audit, in percent."""
        return self.record.scores

    @property
    def warnings(self) -> list[str]:
        """Why the scores of requests do not show that they are forgotten, one sentence for each."""
        own = self.entries_of("requests")
        return [f"request {entry['number']}: {entry['warning']}" for entry in own if entry["warning"]]

    @property
    def bad_verdicts(self) -> dict[int, str]:
        """{number of a request: the words and sentences of its verdict}, where the model lost utility or forgot wrongly."""
        entries = self.entries_of("requests")
        verdicts = [part.verdict for part in self.parts] if entries else []
        return {
            entry["number"]: f"{', '.join(v['words'])}. {' '.join(v['sentences'])}"
            for entry, v in zip(entries, verdicts, strict=True)
            if BAD_WORDS & set(v["words"])
        }

    @property
    def earlier(self) -> list[dict[str, Any]]:
        """The scores of every earlier request under the new model. Empty if nothing was run."""
        return self.entries_of("earlier_requests")

    def entries_of(self, name: str) -> list[dict[str, Any]]:
        """An entry of the record's details. Empty if nothing was run: the record of an earlier run is about other requests."""
        return [] if self.kept else list(self.record.details.get(name) or [])

    @property
    def came_back(self) -> list[dict[str, Any]]:
        """The earlier requests that the new model recognises again."""
        return [entry for entry in self.earlier if entry.get("came_back")]
