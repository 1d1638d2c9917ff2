"""What one run leaves: the model, its scores, and the record."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from ..audit.result import AuditResult
from ..data.past_requests import requests_of
from ..own_code import source_of
from ..records.hashing import state_hash
from ..records.record import Record, plain, settings_of
from ..summaries import score_html
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

    @property
    def shown_record(self) -> Record:
        """The record with up to 12 forgotten samples: pictures, ids and predictions. For reports whose reader may see them."""
        shown = self.audit.examples if self.audit is not None else []
        return (
            replace(self.record, details={**self.record.details, "examples": plain(shown)})
            if shown
            else self.record
        )


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


def details_of(method: Method, run: Run) -> dict[str, Any]:
    """Return what a method reports of a finished run. One that fails or reports no dictionary costs a warning, not the run."""
    name = f"{type(method).__name__}.details"
    try:
        details = plain(method.details(run))
    except Exception as error:  # the method may be the user's code
        warnings.warn(f"{name} failed: {type(error).__name__}: {error}", RuntimeWarning, stacklevel=4)
        return {}
    if not isinstance(details, dict):
        warnings.warn(
            f"{name} returned {type(details).__name__}; return a dictionary.", RuntimeWarning, stacklevel=4
        )
        return {}
    if "implementation" in details:
        warnings.warn(
            f"{name} has the entry 'implementation', which names the code in a record; it is left out.",
            RuntimeWarning,
            stacklevel=4,
        )
    return {key: value for key, value in details.items() if key != "implementation"}


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
    details: dict[str, Any] = {"notes": list(run.notes)} if run.notes else {}
    if method is not None:
        details["implementation"] = source_of(type(method))
    if run.mask is not None:
        details["mask"] = {"density": run.mask.density}
        if zeros := run.mask.metadata.get("zero_saliency"):
            details["mask"]["zero_saliency"] = int(zeros)
    details |= _details_of_requests(kind, run)
    return Record(
        kind=kind,
        method=method.name() if method is not None else unknown,
        settings=settings_of(method) if method is not None else {},
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


def _details_of_requests(kind: str, run: Run) -> dict[str, Any]:
    """Return the earlier requests of the split, and the number of those that an original has answered itself."""
    details: dict[str, Any] = {}
    if kind == "original" and (answered := requests_of(run.model)):
        # it is the model before a later run, and not the one that was trained
        details["answered"] = len(answered)
    if run.split.earlier:
        details["earlier"] = [e.past.public() for e in run.split.earlier]
    return details
