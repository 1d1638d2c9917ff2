"""What one run leaves: the model, its scores, and the record."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from torch import nn

from ..audit.evaluation import Evaluation, evaluate
from ..audit.grounds import Tolerances, find_grounds
from ..audit.measure import Measure
from ..audit.standard import AuditResult, check_references, summarize
from ..extensions import source_of
from ..records.hashing import state_hash
from ..records.record import Record, plain
from ..summaries import score_html
from ..tasks.task import Task
from ..training.method import Method
from ..training.run import Run


@dataclass(eq=False)
class Outcome:
    """A finished run.

    Args:
        run: The run.
        record: Its record.
        evaluation: What the model predicts on each set, by which later models are compared with it; for a generator the
            images that were sampled. None if the task has no scores.
        audit: The scores with tables and limits. None for generators, and for tasks without scores.
        method: The method, with the settings that trials chose if there were any. None if it is unknown.
    """

    run: Run
    record: Record
    evaluation: Any = None
    audit: AuditResult | None = None
    method: Method | None = None

    def __repr__(self) -> str:
        return repr(self.record).replace("Record", "Outcome", 1)

    def _repr_html_(self) -> str:
        title = f"{self.record.kind} {self.record.method}, seed {self.record.seed}"
        return score_html(title, self.record.scores)

    @property
    def model(self) -> nn.Module:
        """The resulting model."""
        return self.run.model


@dataclass(eq=False)
class Reference:
    """An original or a retrained model, just made or from a file.

    Args:
        run: A run with the model.
        method: The recipe it was trained with; None if it is unknown.
        before: Hash of the model that its run started from.
        outcome: Its outcome, if it was scored and recorded before.
    """

    run: Run
    method: Method | None = None
    before: str = ""
    outcome: Outcome | None = None


@dataclass(eq=False)
class References:
    """The outcomes that methods are compared with. `retrained` is None without a reference model."""

    original: Outcome
    retrained: Outcome | None = None

    @property
    def measured(self) -> dict[str, Any]:
        """What was measured of both, as arguments of `Pipeline.outcome`."""
        retrained = self.retrained.evaluation if self.retrained is not None else None
        return {"original": self.original.evaluation, "retrained": retrained}


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
            original=original,
            retrained=own if record.kind == "retrain" else retrained,
            measures=self.measures,
            task=self.task,
            tolerances=self.tolerances,
        )
        if record.kind == "original" and retrained is not None:
            self._compare_references(audit, own, retrained)
        record.scores = plain(audit.scores)
        record.details.update(plain(audit.details), limits=audit.limits)
        return audit

    def _compare_references(self, audit: AuditResult, original: Evaluation, retrained: Evaluation) -> None:
        """Leave the gap out of the original's own audit too where the retrained model is not comparable with it."""
        reason = find_grounds(original, original, retrained, self.tolerances).reference
        if reason and audit.scores.pop("gap", None):
            audit.details["grounds"] = {**audit.details.get("grounds", {}), "reference": reason}
            audit.limits.insert(0, reason)


def default_scoring(
    task: Task, measures: Sequence[Measure] = (), tolerances: Tolerances | None = None
) -> Scoring | None:
    """Return the standard scoring; None for a task that does not offer "scores"."""
    return StandardScoring(task, measures, tolerances) if "scores" in task.offers else None


def record_of(
    kind: str,
    run: Run,
    method: Method | None,
    *,
    before: str = "",
    names: dict[str, Any] | None = None,
    command: str = "",
) -> Record:
    """Return the record of a run, without scores.

    Args:
        kind: "original", "retrain", "unlearn" or "erase".
        run: The run.
        method: The method that made the model. None if it is unknown: the record then has no settings.
        before: Hash of the model that the run started from.
        names: {"model": ..., "data": ..., "classes": [...]}.
        command: The command as it can be typed again.
    """
    unknown = "retrain" if kind in ("original", "retrain") else "unknown"
    named = names or {}
    parameters = list(run.model.parameters())
    details: dict[str, Any] = {}
    if method is not None:
        details["implementation"] = source_of(type(method))
    if run.mask is not None:
        details["mask"] = {"density": run.mask.density}
        if zeros := run.mask.metadata.get("zero_saliency"):
            details["mask"]["zero_saliency"] = int(zeros)
    if run.split.earlier:
        details["earlier"] = [e.past.public() for e in run.split.earlier]
    return Record(
        kind=kind,
        method=method.name() if method is not None else unknown,
        settings=plain(asdict(method)) if method is not None else {},
        goal=run.split.goal,
        task=run.task.name,
        model={
            "name": named.get("model", type(run.model).__name__),
            "parameters": sum(p.numel() for p in parameters),
            "hash_before": before,
            "hash_after": state_hash(run.model.state_dict()),
            "device": str(run.device),
        },
        data={
            "name": named.get("data", run.split.forget.data.name),
            "classes": list(named.get("classes") or run.split.forget.data.classes or []),
        },
        split=run.split.to_dict(),
        seed=run.seed,
        status=run.status,
        ended=run.ended,
        curves=plain(run.history),
        details=details,
        seconds=run.seconds,
        peak_memory=run.peak_memory,
        command=command,
    )
