"""What does the jobs of a grid, in this process or another: originals and retrained models are made once, named by the
content they depend on, and reused; a finished run's file is its answer ever after."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from ..audit.accuracy import Judged, judge
from ..checkpoint import load_into, read_checkpoint, write_checkpoint
from ..classification import Classification
from ..experiment import Outcome, experiment, judge_run, seeded_factory, train
from ..files import write_json
from ..method import Method, find
from ..methods.retrain import Retrain
from ..models import build
from ..record import Record, plain
from ..run import Compute, Row, Run
from ..sources import Source, load, place_of
from ..split import Split
from ..split_spec import SplitSpec
from .grid import Job
from .tune import By, tune

KEPT = (
    "table2x2",
    "worst_class",
    "mask",
    "per_class",
    "redistribution",
    "histograms",
)  # of a record's details
Setting = tuple[Source, Split, Classification]


class OutOfTime(Exception):
    """The time given to this call is over; the run's state is kept and it goes on at the next call."""


@lru_cache(maxsize=2)
def _source(data: str) -> Source:
    return load(place_of(data))


@lru_cache(maxsize=8)
def _setting(data: str, split: str, seed: int) -> Setting:
    source = _source(data)
    values: dict[str, Any] = json.loads(split)
    if "forget_class" in values:
        values["forget_class"] = tuple(map(str, values["forget_class"]))
    spec = SplitSpec(**values)
    if spec.forget_class == ("seed",):  # another class for each seed
        spec = replace(spec, forget_class=(str(seed % len(source.classes)),))
    drawn = replace(spec, split_seed=seed).draw(source.train, source.test)
    return source, drawn, Classification(len(source.classes))


class Worker:
    """Does jobs, with what they share in `folder`.

    Args:
        folder: Where models (`models/`), tuned settings (`tuned/`) and records (`runs/`) are kept.
        device: Where models are.
        deadline: Seconds since the epoch after which a run stops with its state kept (`OutOfTime`).
    """

    def __init__(self, folder: Path, device: str = "cpu", deadline: float | None = None):
        self.folder, self.device, self.deadline = folder, device, deadline
        self.judged: dict[Path, tuple[torch.nn.Module, Judged]] = {}  # models at hand, judged once

    def __call__(self, job: Job) -> Path:
        """The record's file of a finished job."""
        file = self.folder / "runs" / f"{job.key()}.json"
        if file.exists():
            return file
        self.check_time()
        source, split, task = self.setting(job)
        original, start = self.original(job)
        _, gold = self.retrained(job)
        outcome = experiment(original, split, self.method(job), task, original=start, retrained=gold, seed=job.seed,
                             **self.options(job, source, file))  # fmt: skip
        outcome.record.details["label"] = job.label
        self.keep(file, outcome)
        return file

    def references(self, job: Job) -> list[Record]:
        """The records of the original and of the retrained model of a job."""
        source, split, task = self.setting(job)
        original, _ = self.original(job)
        _, gold = self.retrained(job)
        named = {"model": job.model, "data": source.name}
        before = judge_run(Run(original, split, task, job.seed), Retrain(**job.recipe), kind="original", retrained=gold,
                           names=named)  # fmt: skip
        return [before.record, Record.load(self._retrained_file(job).with_suffix(".json"))]

    def check_time(self) -> None:
        """Raises `OutOfTime` after the deadline."""
        if self.deadline is not None and time.time() > self.deadline:
            raise OutOfTime

    def setting(self, job: Job) -> Setting:
        """The job's data, its split (drawn once a process) and its task."""
        return _setting(job.data, json.dumps(job.split, sort_keys=True), job.seed)

    def options(self, job: Job, source: Source, file: Path) -> dict[str, Any]:
        """Options of `experiment`; with a deadline the run keeps a state beside `file` from which it goes on."""

        def on_row(row: Row) -> None:
            self.check_time()

        return {"compute": Compute(**job.compute), "on_row": on_row, "factory": self.factory(job, source),
                "state_file": file.with_suffix(".state") if self.deadline else None,
                "names": {"model": job.model, "data": source.name, "classes": source.classes}}  # fmt: skip

    def factory(self, job: Job, source: Source) -> Callable[[], torch.nn.Module]:
        """Makes the job's model with the fresh weights of its seed."""
        return seeded_factory(
            lambda: build(job.model, num_classes=len(source.classes), shape=source.shape).to(self.device),
            job.seed,
        )

    # ---- what jobs share

    def original(self, job: Job) -> tuple[torch.nn.Module, Judged]:
        """The model trained on forget + retain; the same file for every forget set of one training set."""
        source, split, task = self.setting(job)
        path = self.folder / "models" / f"original-{job.origin}-{split.train_hash[:12]}.safetensors"
        if not path.exists():
            options = self.options(job, source, path)
            del options["names"], options["factory"]
            run = train(
                self.factory(job, source)(), split, Retrain(**job.recipe), task, seed=job.seed, **options
            )
            self.write(path, run.model)
        return self.known(path, job)

    def retrained(self, job: Job) -> tuple[torch.nn.Module, Judged]:
        """The model that never saw the forget set."""
        path = self._retrained_file(job)
        if not path.exists():
            source, split, task = self.setting(job)
            original, start = self.original(job)
            outcome = experiment(original, split, Retrain(**job.recipe), task, kind="retrain", original=start, seed=job.seed,
                                 **self.options(job, source, path))  # fmt: skip
            self.keep(path.with_suffix(".json"), outcome)
            self.write(path, outcome.model)
        return self.known(path, job)

    def _retrained_file(self, job: Job) -> Path:
        return self.folder / "models" / f"retrain-{job.place}.safetensors"

    def known(self, path: Path, job: Job) -> tuple[torch.nn.Module, Judged]:
        """The model of a file and its scores on the job's split, kept for the next job that asks."""
        source, split, task = self.setting(job)
        key = path.with_name(f"{path.name} {split.hash}")
        if key not in self.judged:
            while len(self.judged) >= 8:
                del self.judged[next(iter(self.judged))]
            model = self.factory(job, source)()
            load_into(model, read_checkpoint(path))
            self.judged[key] = model.eval(), judge(model, split, task, seed=job.seed)
        return self.judged[key]

    def method(self, job: Job) -> Method:
        """The job's method, with settings tuned on a seed of their own if the grid asks for it."""
        method = find(job.method)(**job.settings)
        if not job.tuning or not type(method).search:
            return method
        by: By = job.tuning.get("by", "validation")
        file = self.folder / "tuned" / f"{job.choice}-{by}.json"
        if not file.exists():
            place = replace(job, seed=job.tuning["seed"])
            _, split, task = self.setting(place)
            original, _ = self.original(place)
            gold = self.retrained(place)[1] if by == "gap" else None
            found = tune(original, split, method, task, count=job.tuning["trials"], by=by, retrained=gold,
                         fixed=tuple(job.settings), seed=place.seed, compute=Compute(**job.compute))  # fmt: skip
            told = {
                "by": by,
                "method": job.method,
                "label": job.label,
                "split": job.split,
                "fixed": job.settings,
            }
            write_json(file, plain({**told, "trials": [asdict(t) for t in found]}))
        best = json.loads(file.read_text(encoding="utf-8"))["trials"][0]["settings"]
        # what the grid fixes (an ablation's axis, say) is not tuned away
        return replace(method, **{k: v for k, v in best.items() if k not in job.settings})

    def keep(self, file: Path, outcome: Outcome) -> None:
        """Write the record without its pictures, and drop the state it could have gone on from."""
        outcome.record.details = {k: v for k, v in outcome.record.details.items() if k in (*KEPT, "label")}
        outcome.record.save(file)
        file.with_suffix(".state").unlink(missing_ok=True)

    def write(self, path: Path, model: torch.nn.Module) -> None:
        """Write a model, and drop the state it could have gone on from."""
        write_checkpoint(path, model.state_dict())
        path.with_suffix(".state").unlink(missing_ok=True)
