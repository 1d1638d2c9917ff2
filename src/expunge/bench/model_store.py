"""Make, keep and load the models that the jobs of a grid share.

Originals and retrained models are made once. Their files are named by a hash of everything that they depend on.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Self

from torch import nn

from ..audit.evaluation import Evaluation, evaluate
from ..audit.measure import find_measure
from ..data.split import Split
from ..data.split_settings import SplitSpec
from ..errors import ExpungeError
from ..methods.retrain import Retrain
from ..models import build
from ..models.preparation import ordered_spec
from ..pipeline.factory import seeded_factory
from ..pipeline.outcome import Outcome
from ..pipeline.pipeline import Pipeline
from ..pipeline.watch import Watch
from ..records.checkpoint import read_checkpoint, write_checkpoint
from ..records.checkpoint_loading import load_into
from ..records.record import Record
from ..sources.loading import load
from ..sources.source import Source
from ..sources.spec import locate
from ..tasks.classification import Classification
from ..training.run import Compute, Row
from .grid import Job
from .scheduler import OutOfTime

# The entries of a record's details that are kept.
KEPT_DETAILS = (
    "table2x2",
    "worst_class",
    "mask",
    "per_class",
    "redistribution",
    "histograms",
    "measures",
    "implementation",
    "notes",
)
Setting = tuple[Source, Split, Classification]
# Number of models that a process keeps in memory.
CACHE_SIZE = 8
# The models of this process with their evaluations, by file, split, device and whether features are kept.
_CACHE: dict[tuple[Path, str, str, bool], tuple[nn.Module, Evaluation]] = {}


@lru_cache(maxsize=2)
def _source(data: str) -> Source:
    return load(data)


@lru_cache(maxsize=8)
def _setting(data: str, split: str, seed: int) -> Setting:
    source = _source(data)
    values: dict[str, Any] = json.loads(split)
    if "forget_class" in values:
        values["forget_class"] = tuple(map(str, values["forget_class"]))
    spec = SplitSpec(**values)
    if spec.forget_class == ("seed",):
        # another class for each seed
        spec = replace(spec, forget_class=(source.classes[seed % len(source.classes)],))
    drawn = replace(spec, split_seed=seed).draw(source.train, source.test)
    return source, drawn, Classification(len(source.classes))


class ModelStore:
    """Keep the models and records of jobs in a folder.

    Args:
        folder: Folder for models (`models/`), tuned settings (`tuned/`) and records (`runs/`).
        device: Device of the models.
        deadline: Time in seconds since the epoch. A run that goes on longer stops with `OutOfTime` and keeps its state.
    """

    def __init__(self, folder: Path, device: str = "cpu", deadline: float | None = None):
        # absolute, because other processes may have another working directory
        self.folder = folder.resolve()
        self.device, self.deadline = device, deadline

    def on(self, device: str) -> Self:
        """Return the same on another device."""
        return type(self)(self.folder, device, self.deadline)

    def check_time(self) -> None:
        """Raise `OutOfTime` if the deadline has passed."""
        if self.deadline is not None and time.time() > self.deadline:
            raise OutOfTime

    def setting(self, job: Job) -> Setting:
        """Return the data, the split and the task of a job. Each process makes them once."""
        return _setting(
            ordered_spec(locate(job.data), job.model), json.dumps(job.split, sort_keys=True), job.seed
        )

    def pipeline(self, job: Job, file: Path) -> Pipeline:
        """Return the pipeline of a job. With a deadline, each run keeps its state beside `file`."""
        source, split, task = self.setting(job)
        return Pipeline(
            split=split,
            task=task,
            factory=self.factory(job, source),
            recipe=Retrain(**job.recipe),
            seed=job.seed,
            compute=Compute(**job.compute),
            names={"model": job.model, "data": source.name, "classes": source.classes},
            watch=lambda label, method: nullcontext(self.watch(file)),
        )

    def watch(self, file: Path) -> Watch:
        """Return how a run is watched: it stops after the deadline, and keeps its state beside `file` until then."""

        def on_row(row: Row) -> None:
            self.check_time()

        return Watch(on_row=on_row, state_file=file.with_suffix(".state") if self.deadline else None)

    def factory(self, job: Job, source: Source) -> Callable[[], nn.Module]:
        """Return a function that makes the model of a job with the fresh parameters of its seed."""
        return seeded_factory(
            lambda: build(job.model, num_classes=len(source.classes), shape=source.shape).to(self.device),
            job.seed,
        )

    def make_original(self, job: Job) -> Path:
        """Train the original on forget and retain set, unless its file exists. All forget sets share it."""
        split = self.setting(job)[1]
        path = self.folder / "models" / f"original-{job.origin}-{split.train_hash[:12]}.safetensors"
        if not path.exists():
            self.check_time()
            self.save_model(path, self.pipeline(job, path).train_original().run.model)
        return path

    def make_retrained(self, job: Job) -> Path:
        """Train the retrained model, unless its file exists, and write its record beside it."""
        path = self.retrained_file(job)
        check_split(path.with_suffix(".json"), self.setting(job)[1])
        if not path.exists():
            self.check_time()
            original, evaluation = self.original(job)
            pipeline = self.pipeline(job, path)
            reference = pipeline.retrain(original)
            outcome = pipeline.outcome(
                "retrain", reference.run, reference.method, before=reference.before, original=evaluation
            )
            self.save_outcome(path.with_suffix(".json"), outcome)
            self.save_model(path, outcome.model)
        return path

    def original(self, job: Job) -> tuple[nn.Module, Evaluation]:
        """Return the original of a job and its evaluation on the job's split. Make it if it is missing."""
        return self.evaluated(self.make_original(job), job)

    def retrained(self, job: Job) -> tuple[nn.Module, Evaluation]:
        """Return the retrained model of a job and its evaluation. Make it if it is missing."""
        return self.evaluated(self.make_retrained(job), job)

    def retrained_file(self, job: Job) -> Path:
        """Return the path of the retrained model of a job."""
        return self.folder / "models" / f"retrain-{job.place}.safetensors"

    def evaluated(self, path: Path, job: Job) -> tuple[nn.Module, Evaluation]:
        """Load a model and evaluate it on the job's split. The process keeps up to 8 of them."""
        source, split, task = self.setting(job)
        # for large data, features take most of the memory, and few measures use them
        keep = any("features" in find_measure(m).needs for m in job.measures)
        key = path.resolve(), split.hash, self.device, keep
        if key not in _CACHE:
            while len(_CACHE) >= CACHE_SIZE:
                del _CACHE[next(iter(_CACHE))]
            model = self.factory(job, source)()
            load_into(model, read_checkpoint(path))
            evaluation = evaluate(model.eval(), split, task, seed=job.seed)
            _CACHE[key] = model, evaluation if keep else _without_features(evaluation)
        return _CACHE[key]

    def save_outcome(self, file: Path, outcome: Outcome) -> None:
        """Write the record of an outcome without its pictures, and delete the state of the run."""
        kept = (*KEPT_DETAILS, "label")
        outcome.record.details = {k: v for k, v in outcome.record.details.items() if k in kept}
        outcome.record.save(file)
        file.with_suffix(".state").unlink(missing_ok=True)

    def save_model(self, path: Path, model: nn.Module) -> None:
        """Write a model, and delete the state of the run."""
        write_checkpoint(path, model.state_dict())
        path.with_suffix(".state").unlink(missing_ok=True)


def check_split(file: Path, split: Split) -> None:
    """Raise `ExpungeError` if the record of a reference exists and has another split: the data have changed since."""
    if file.exists() and Record.load(file).split.get("hash") != split.hash:
        raise ExpungeError(
            f"{file.name} is the record of a model that was made with other data: its split has another hash. A table would mix "
            "results of both. Use the data it was made with, or another --out folder."
        )


def _without_features(evaluation: Evaluation) -> Evaluation:
    """Drop the features."""
    sets = ("forget", "retain", "test", "test_forgotten")
    return replace(evaluation, **{n: replace(getattr(evaluation, n), features=None) for n in sets})
