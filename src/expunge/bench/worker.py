"""Run one job of a grid, in any process. A job whose record exists is finished."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

from torch import nn

from ..audit.evaluation import Evaluation
from ..audit.measure import make_measures
from ..audit.standard import summarize
from ..methods.retrain import Retrain
from ..pipeline.outcome import Outcome, Reference
from ..records.atomic_files import write_json
from ..records.record import Record, plain
from ..training.method import Method
from ..training.registry import find
from ..training.run import Compute, Run
from ..tuning.search import By, search_space
from ..tuning.trials import tune
from .grid import Job
from .model_store import ModelStore


class Worker(ModelStore):
    """Run jobs, and keep what they share in a folder.

    Args:
        folder: Folder for models (`models/`), tuned settings (`tuned/`) and records (`runs/`).
        device: Device of the models.
        deadline: Time in seconds since the epoch. A run that goes on longer stops with `OutOfTime` and keeps its state.

    Example:
        >>> worker = Worker(Path("benchmarks/cache"))
        >>> record = Record.load(worker(job))
    """

    def __call__(self, job: Job) -> Path:
        """Run a job, unless its record exists.

        Args:
            job: The job.

        Returns:
            The file of its record.

        Raises:
            OutOfTime: If the deadline has passed.
        """
        file = self.folder / "runs" / f"{job.key()}.json"
        if file.exists():
            return file
        self.check_time()
        first, second = self.references(job)
        pipeline = replace(self.pipeline(job, file), measures=job.measures)
        outcome = pipeline.run(
            {job.label: self.method(job)},
            original=lambda: self._reference(job, first, *self.original(job)),
            retrained=lambda model: self._reference(job, second, *self.retrained(job)),
        )[-1]
        outcome.record.details["label"] = job.label
        self.save_outcome(file, outcome)
        return file

    def references(self, job: Job) -> list[Record]:
        """Return the records of the original and of the retrained model of a job. Make them if they are missing."""
        original_file = self.folder / "models" / f"original-{job.place}.json"
        retrained_file = self.retrained_file(job).with_suffix(".json")
        if not retrained_file.exists():
            self.make_retrained(job)
        if not original_file.exists():
            _, split, task = self.setting(job)
            original, evaluation = self.original(job)
            _, retrained = self.retrained(job)
            outcome = self.pipeline(job, original_file).outcome(
                "original",
                Run(original, split, task, job.seed),
                Retrain(**job.recipe),
                own=evaluation,
                retrained=retrained,
            )
            self.save_outcome(original_file, outcome)
        files = [original_file, retrained_file]
        return [self._with_measures(file, job) if job.measures else Record.load(file) for file in files]

    def _with_measures(self, file: Path, job: Job) -> Record:
        """Return the record of a reference with the extra measures of a job. It has a file of its own."""
        extended = file.with_name(f"{file.stem}-{job.measured}.json")
        if not extended.exists():
            _, _, task = self.setting(job)
            original, retrained = self.original(job)[1], self.retrained(job)[1]
            record = Record.load(file)
            own = retrained if record.kind == "retrain" else original
            result = summarize(
                own,
                original=original,
                retrained=retrained,
                measures=make_measures(job.measures, task),
                task=task,
            )
            record.scores = plain(result.scores)
            record.details["measures"] = plain(result.details["measures"])
            record.save(extended)
        return Record.load(extended)

    def _reference(self, job: Job, record: Record, model: nn.Module, evaluation: Evaluation) -> Reference:
        """Return an original or retrained model that was evaluated and recorded before."""
        _, split, task = self.setting(job)
        run = Run(model, split, task, job.seed)
        return Reference(run, outcome=Outcome(run, record, evaluation))

    def method(self, job: Job) -> Method:
        """Return the method of a job. If the grid asks for it, tune its settings first."""
        method = find(job.method)(**job.settings)
        # nothing to tune if the method has no search space, or if the grid fixes all of it
        if not job.tuning or not search_space(method, job.settings):
            return method
        by: By = job.tuning.get("by", "validation")
        file = self.folder / "tuned" / f"{job.choice}-{by}.json"
        if not file.exists():
            self._tune(job, method, by, file)
        best = json.loads(file.read_text(encoding="utf-8"))["trials"][0]["settings"]
        # tuning must not change what the grid fixes, such as the axis of an ablation
        return replace(method, **{k: v for k, v in best.items() if k not in job.settings})

    def _tune(self, job: Job, method: Method, by: By, file: Path) -> None:
        """Write the trials of a job's method to `file`. An interrupted call is continued."""
        tuned_on, tuning = job.tuned_on, job.tuning or {}
        _, split, task = self.setting(tuned_on)
        original, _ = self.original(tuned_on)
        retrained = self.retrained(tuned_on)[1] if by == "gap" else None
        about = {
            "by": by,
            "method": job.method,
            "label": job.label,
            "split": job.split,
            "seed": tuned_on.seed,
            "fixed": job.settings,
        }
        partial = file.with_suffix(".part")
        watch = self.watch(file)
        tuned = tune(
            original,
            split,
            method,
            task,
            count=tuning["trials"],
            by=by,
            retrained=retrained,
            seed=tuned_on.seed,
            fixed=job.settings,
            compute=Compute(**tuned_on.compute),
            on_row=watch.on_row,
            trials_file=partial,
            state_file=watch.state_file,
        )
        trials = [asdict(t) for t in tuned.trials]
        write_json(file, plain({**about, "untouched": tuned.untouched, "trials": trials}))
        partial.unlink(missing_ok=True)
