"""One run from settings to `Record`: train the original, retrain the reference, unlearn, judge. What the command line,
the demo and the benchmark have in common."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..audit.evaluation import Evaluation, evaluate
from ..audit.standard import AuditResult, check_references, summarize
from ..data.split import Split
from ..masks.mask_file import Mask
from ..methods.retrain import Retrain
from ..records.hashing import state_hash
from ..records.record import Record, plain
from ..summaries import score_html
from ..tasks.task import Task, require
from ..torch_utils.module_state import check_seed
from ..training.execute import execute
from ..training.method import Method
from ..training.run import Compute, Row, Run
from ..tuning.search import Trial
from ..tuning.trials import tune

Factory = Callable[[], nn.Module]


@dataclass(eq=False)
class Outcome:
    """A finished run: the model, what an audit found (None for models that are no classifiers), and the record."""

    run: Run
    record: Record
    judged: Evaluation | None = None
    audit: AuditResult | None = None
    method: Method | None = None  # with the settings that trials chose, where there were some

    def __repr__(self) -> str:
        return repr(self.record).replace("Record", "Outcome", 1)

    def _repr_html_(self) -> str:
        return score_html(
            f"{self.record.kind} {self.record.method}, seed {self.record.seed}", self.record.scores
        )

    @property
    def model(self) -> nn.Module:
        """The resulting model."""
        return self.run.model


def train(
    model: nn.Module, split: Split, recipe: Retrain, task: Task, *, fresh: bool = False, **options: Any
) -> Run:
    """Train a copy of `model` on everything the original may see, forget + retain, by the loop that Retrain uses.

    The weights handed in are where training starts, unless `fresh` is true. `options` are those of `execute`. The run
    that comes back has the split it was trained on: its retain set is all training samples.
    """
    if not fresh:
        options = {**options, "factory": lambda: copy.deepcopy(model)}
    return execute(model, split.for_original, recipe, task, **options)


def seeded_factory(factory: Factory, seed: int) -> Factory:
    """`factory` with torch's random state seeded, so that original and retrained model start from the same weights.
    Raises `ExpungeError` for what is no seed."""
    check_seed(seed)

    def make() -> nn.Module:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return factory()

    return make


def record_of(
    kind: str,
    run: Run,
    method: Method | None,
    *,
    before: str = "",
    names: dict[str, Any] | None = None,
    command: str = "",
) -> Record:
    """The record of a run, without scores. `names`: {"model": ..., "data": ..., "classes": [...]}.

    `method` is None for a model of which nobody says how it was made: then no settings are made up for it.
    """
    unsaid = "retrain" if kind in ("original", "retrain") else "unknown"
    named = names or {}
    weights = list(run.model.parameters())
    return Record(
        kind=kind,
        method=method.name() if method is not None else unsaid,
        settings=plain(asdict(method)) if method is not None else {},
        goal=run.split.goal,
        task=run.task.name,
        model={
            "name": named.get("model", type(run.model).__name__),
            "parameters": sum(p.numel() for p in weights),
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
        details={"mask": {"density": run.mask.density}} if run.mask is not None else {},
        seconds=run.seconds,
        peak_memory=run.peak_memory,
        command=command,
    )


def experiment(
    model: nn.Module,
    split: Split,
    method: Method,
    task: Task,
    *,
    kind: str = "unlearn",
    original: Evaluation | None = None,
    retrained: Evaluation | None = None,
    seed: int = 0,
    compute: Compute | None = None,
    factory: Factory | None = None,
    mask: Mask | None = None,
    state_file: Any = None,
    on_row: Callable[[Row], None] | None = None,
    names: dict[str, Any] | None = None,
    command: str = "",
    trials: int = 1,
    fixed: Collection[str] = (),
    on_trial: Callable[[list[Trial]], None] | None = None,
    trials_file: Path | str | None = None,
) -> Outcome:
    """Run `method`, judge its result beside the original's and Retrain's predictions, and write the record of it all.

    With `trials` above 1 the method's settings, but for the fields in `fixed`, are chosen first by that many trials on
    validation data (`tuning.tune`, with `on_trial` and `trials_file`); the record lists them. The clock of the record (RTE) is
    that of the one run whose model this is: neither the other trials nor judging are in it.
    """
    check_references(split, original, retrained)
    before = state_hash(model.state_dict())
    options: dict[str, Any] = {"mask": mask, "seed": seed, "compute": compute, "factory": factory,
                               "state_file": state_file, "on_row": on_row}  # fmt: skip
    run, found = None, {}
    if trials != 1:
        require(task, ["scores"], "tuning")
        tuned = tune(model, split, method, task, count=trials, fixed=fixed, on_trial=on_trial,
                     trials_file=trials_file, **options)  # fmt: skip
        method, run = tuned.method, tuned.run
        found = {"trials": [asdict(t) for t in tuned.trials], "trials_untouched": tuned.untouched}
    outcome = judge_run(
        run or execute(model, split, method, task, **options),
        method,
        kind=kind,
        original=original,
        retrained=retrained,
        before=before,
        names=names,
        command=command,
    )
    outcome.record.details |= plain(found)
    return outcome


def judge_run(
    run: Run,
    method: Method | None,
    *,
    kind: str,
    original: Evaluation | None = None,
    retrained: Evaluation | None = None,
    before: str = "",
    names: dict[str, Any] | None = None,
    command: str = "",
) -> Outcome:
    """The outcome of a finished run, or of a model that came from elsewhere (`method` as for `record_of`)."""
    check_references(run.split, original, retrained)
    record = record_of(kind, run, method, before=before, names=names, command=command)
    if method is not None:
        record.details.update(plain(method.details(run)))
    if "scores" not in run.task.offers:
        return Outcome(run, record, method=method)
    judged = evaluate(run.model, run.split, run.task, seed=run.seed)
    found = summarize(judged, original=original, retrained=retrained if kind != "retrain" else judged)
    record.scores = plain(found.scores)
    record.details.update(plain(found.details), limits=found.limits)
    return Outcome(run, record, judged, found, method)
