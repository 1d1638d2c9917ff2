"""Score and record finished runs, each beside the original and the retrained model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from ..audit.evaluation import Evaluation, evaluate
from ..audit.measure import Measure, MeasureLike, make_measure, make_measures
from ..audit.result import AuditResult
from ..audit.standard import check_references, summarize
from ..audit.tolerances import Tolerances
from ..data.past_requests import remember_scores
from ..data.split import Split
from ..errors import ExpungeError
from ..records.record import Record, plain
from ..tasks.task import Task
from ..training.method import Method
from ..training.run import Run
from ..tuning.caution import worse_text
from .changes import change_texts
from .outcome import Outcome, details_of, record_of


class Scoring(Protocol):
    """How models of one kind are scored, for the pipeline."""

    def measure(self, run: Run) -> Any:
        """Return what the scores of a model are computed from: predictions, or sampled images."""

    def describe(
        self, record: Record, label: str, own: Any, original: Any, retrained: Any
    ) -> AuditResult | None:
        """Write scores and tables into the record.

        Args:
            record: The record of the run.
            label: "original", "retrain" or the label of the method.
            own: What `measure` returned for this model.
            original: The same for the original, or None.
            retrained: The same for the retrained model, or None.
        """


@dataclass(frozen=True)
class StandardScoring:
    """The standard audit: accuracies, membership attacks and gaps, for every task that offers "scores".

    Args:
        task: The task of the models.
        measures: Extra measures.
        tolerances: How far the retrained model may differ from the original, and the forget set from unseen samples.
    """

    task: Task
    measures: Sequence[Measure] = ()
    tolerances: Tolerances | None = None

    def measure(self, run: Run) -> Evaluation:
        """Return the evaluation of the run's model on each set."""
        return evaluate(run.model, run.split, run.task, seed=run.seed)

    def describe(self, record: Record, label: str, own: Any, original: Any, retrained: Any) -> AuditResult:
        """Write scores, tables and limits into the record. The retrained model is compared with itself."""
        check_references(own.split, original, retrained)
        audit = summarize(
            own,
            original=own if record.kind == "original" else original,
            retrained=own if record.kind == "retrain" else retrained,
            measures=self.measures,
            task=self.task,
            tolerances=self.tolerances,
        )
        record.scores = plain(audit.scores)
        record.details.update(plain(audit.details), limits=audit.limits)
        return audit


def default_scoring(
    task: Task, measures: Sequence[Measure] = (), tolerances: Tolerances | None = None
) -> Scoring | None:
    """Return the standard scoring; None for a task that does not offer "scores"."""
    return StandardScoring(task, measures, tolerances) if "scores" in task.offers else None


@dataclass(frozen=True, kw_only=True)
class Scorer:
    """How the runs of one comparison are scored and recorded.

    Args:
        split: The split of all runs.
        task: The task of all models.
        seed: Seed of all runs.
        names: {"model": ..., "data": ..., "classes": [...]}, for records.
        command: The command as it can be typed again, for records.
        scoring: How models are scored. By default as the task says.
        measures: Extra measures: names such as "ToW", `package.module:Class`, classes or instances of
            `expunge.audit.Measure`. Every model of the comparison is measured.
        tolerances: How far the retrained model may differ from the original, and the forget set from unseen samples.
    """

    split: Split
    task: Task
    seed: int = 0
    names: dict[str, Any] | None = None
    command: str = ""
    scoring: Scoring | None = None
    measures: Sequence[MeasureLike] = ()
    tolerances: Tolerances | None = None

    def __post_init__(self) -> None:
        """Raise `ExpungeError` for measures that are unknown or need what the task does not offer."""
        if self.measures and self.scoring is not None:
            raise ExpungeError("measures are for the default scoring; leave out `measures` or `scoring`.")
        object.__setattr__(self, "measures", make_measures(self.measures, self.task))

    def outcome(
        self,
        kind: str,
        run: Run,
        method: Method | None,
        *,
        before: str = "",
        label: str = "",
        own: Any = None,
        original: Any = None,
        retrained: Any = None,
    ) -> Outcome:
        """Score and record a finished run, or a model from elsewhere.

        Args:
            kind: Kind of the record: "original", "retrain" or "unlearn".
            run: The run.
            method: The method that made the model, or None if it is unknown.
            before: Hash of the model that the run started from.
            label: Label of the run; by default the kind.
            own: What was measured of this model, if that is known already.
            original: What was measured of the original, or None.
            retrained: What was measured of the retrained model, or None.
        """
        check_measured(run.split, original, retrained)
        record = record_of(kind, run, method, before=before, names=self.names, command=self.command)
        if method is not None and not run.kept_original:
            record.details.update(details_of(method, run))
        scoring = self._scoring
        if scoring is None:
            return Outcome(run, record, method=method)
        own = scoring.measure(run) if own is None else own
        audit = scoring.describe(record, label or kind, own, original, retrained)
        if kind == "unlearn" and run.has_result:
            remember_scores(run.model, record.scores)
            if isinstance(original, Evaluation):
                exact = method is not None and method.exact
                changes = change_texts(record.scores, original.scores, exact=exact)
                record.details |= {"changes": changes} if changes else {}
        # a model that was trained anew is what others are compared with
        if kind == "unlearn" and (method is None or not method.exact):
            self._note_harm(run, record, own, original, retrained)
        return Outcome(run, record, own, audit, method)

    def _note_harm(self, run: Run, record: Record, own: Any, original: Any, retrained: Any) -> None:
        """Say in status and record that a run ended further from the target than the original."""
        if run.ended not in ("finished", "stopped"):
            return
        comparable = not (record.details.get("grounds") or {}).get("reference")
        if text := worse_text(own, original, retrained if comparable else None, self.task):
            before = "" if run.status == "finished" else f" The run {run.status}"
            run.ended = record.ended = "worse"
            run.status = record.status = f"worse: {text}{before}"

    def measure(self, run: Run) -> Any:
        """Return what the scores of a run's model are computed from; None for a task without scores."""
        return None if self._scoring is None else self._scoring.measure(run)

    @property
    def _scoring(self) -> Scoring | None:
        measures = [make_measure(m) for m in self.measures]
        return self.scoring or default_scoring(self.task, measures, self.tolerances)


def check_measured(split: Split, *measured: Any) -> None:
    """Raise `ExpungeError` for predictions on another split than `split`."""
    check_references(split, *(m for m in measured if isinstance(m, Evaluation)))
