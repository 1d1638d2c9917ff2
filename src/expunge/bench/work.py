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
from ..data.split import Split
from ..data.split_settings import SplitSpec
from ..methods.retrain import Retrain
from ..models import build
from ..pipeline.experiment import Outcome, experiment, judge_run, seeded_factory, train
from ..records.atomic_files import write_json
from ..records.checkpoint import read_checkpoint, write_checkpoint
from ..records.checkpoint_loading import load_into
from ..records.record import Record, plain
from ..sources import Source, load, locate
from ..tasks.classification import Classification
from ..training.method import Method
from ..training.registry import find
from ..training.run import Compute, Row, Run
from ..tuning.search import search_space
from ..tuning.trials import By, tune
from .grid import Job

KEPT = (
    "table2x2",
    "worst_class",
    "mask",
    "per_class",
    "redistribution",
    "histograms",
)  # of a record's details
Setting = tuple[Source, Split, Classification]
HELD = 8  # models that a process keeps at hand
_AT_HAND: dict[tuple[Path, str, str], tuple[torch.nn.Module, Judged]] = {}  # of this process, judged once


class OutOfTime(Exception):
    """The time given to this call is over; the run's state is kept and it goes on at the next call."""


@lru_cache(maxsize=2)
def _source(data: str) -> Source:
    return load(locate(data))


@lru_cache(maxsize=8)
def _setting(data: str, split: str, seed: int) -> Setting:
    source = _source(data)
    values: dict[str, Any] = json.loads(split)
    if "forget_class" in values:
        values["forget_class"] = tuple(map(str, values["forget_class"]))
    spec = SplitSpec(**values)
    if spec.forget_class == ("seed",):  # another class for each seed
        spec = replace(spec, forget_class=(source.classes[seed % len(source.classes)],))
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
        self.folder = folder.resolve()  # other processes may stand elsewhere
        self.device, self.deadline = device, deadline

    def __call__(self, job: Job) -> Path:
        """The record's file of a finished job."""
        file = self.folder / "runs" / f"{job.key()}.json"
        if file.exists():
            return file
        self.check_time()
        self.references(job)
        source, split, task = self.setting(job)
        original, start = self.original(job)
        _, gold = self.retrained(job)
        outcome = experiment(original, split, self.method(job), task, original=start, retrained=gold, seed=job.seed,
                             **self.options(job, source, file))  # fmt: skip
        outcome.record.details["label"] = job.label
        self.keep(file, outcome)
        return file

    def references(self, job: Job) -> list[Record]:
        """The records of the original and of the retrained model of a job; made once, and read where they are."""
        first, second = self._original_record(job), self.retrained_file(job).with_suffix(".json")
        if not second.exists():
            self.make_retrained(job)
        if not first.exists():
            source, split, task = self.setting(job)
            original, _ = self.original(job)
            _, gold = self.retrained(job)
            found = judge_run(Run(original, split, task, job.seed), Retrain(**job.recipe), kind="original", retrained=gold,
                              names={"model": job.model, "data": source.name})  # fmt: skip
            self.keep(first, found)
        return [Record.load(first), Record.load(second)]

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

    def make_original(self, job: Job) -> Path:
        """The file of the model trained on forget + retain; the same for every forget set of one training set."""
        source, split, task = self.setting(job)
        path = self.folder / "models" / f"original-{job.origin}-{split.train_hash[:12]}.safetensors"
        if not path.exists():
            self.check_time()
            options = self.options(job, source, path)
            del options["names"], options["factory"]
            run = train(
                self.factory(job, source)(), split, Retrain(**job.recipe), task, seed=job.seed, **options
            )
            self.write(path, run.model)
        return path

    def make_retrained(self, job: Job) -> Path:
        """The file of the model that never saw the forget set, its record beside it."""
        path = self.retrained_file(job)
        if not path.exists():
            self.check_time()
            source, split, task = self.setting(job)
            original, start = self.original(job)
            outcome = experiment(original, split, Retrain(**job.recipe), task, kind="retrain", original=start, seed=job.seed,
                                 **self.options(job, source, path))  # fmt: skip
            self.keep(path.with_suffix(".json"), outcome)
            self.write(path, outcome.model)
        return path

    def original(self, job: Job) -> tuple[torch.nn.Module, Judged]:
        """The model trained on forget + retain, and its scores on the job's split."""
        return self.known(self.make_original(job), job)

    def retrained(self, job: Job) -> tuple[torch.nn.Module, Judged]:
        """The model that never saw the forget set, and its scores."""
        return self.known(self.make_retrained(job), job)

    def retrained_file(self, job: Job) -> Path:
        """Where the model that never saw the forget set is, or will be."""
        return self.folder / "models" / f"retrain-{job.place}.safetensors"

    def _original_record(self, job: Job) -> Path:
        return self.folder / "models" / f"original-{job.place}.json"

    def known(self, path: Path, job: Job) -> tuple[torch.nn.Module, Judged]:
        """The model of a file and its scores on the job's split, kept for the next job of this process that asks."""
        source, split, task = self.setting(job)
        key = path.resolve(), split.hash, self.device
        if key not in _AT_HAND:
            while len(_AT_HAND) >= HELD:
                del _AT_HAND[next(iter(_AT_HAND))]
            model = self.factory(job, source)()
            load_into(model, read_checkpoint(path))
            _AT_HAND[key] = model.eval(), _lean(judge(model, split, task, seed=job.seed))
        return _AT_HAND[key]

    def method(self, job: Job) -> Method:
        """The job's method, with settings tuned as the grid asks for it."""
        method = find(job.method)(**job.settings)
        if not job.tuning or not search_space(method, job.settings):  # nothing to try, or the grid fixes it
            return method
        by: By = job.tuning.get("by", "validation")
        file = self.folder / "tuned" / f"{job.choice}-{by}.json"
        if not file.exists():
            self._tune(job, method, by, file)
        best = json.loads(file.read_text(encoding="utf-8"))["trials"][0]["settings"]
        # what the grid fixes (an ablation's axis, say) is not tuned away
        return replace(method, **{k: v for k, v in best.items() if k not in job.settings})

    def _tune(self, job: Job, method: Method, by: By, file: Path) -> None:
        """Write the trials of a job's method to `file`; those of an interrupted call are gone on from."""
        place, tuning = job.tuned_on, job.tuning or {}
        source, split, task = self.setting(place)
        original, _ = self.original(place)
        gold = self.retrained(place)[1] if by == "gap" else None
        told = {
            "by": by,
            "method": job.method,
            "label": job.label,
            "split": job.split,
            "seed": place.seed,
            "fixed": job.settings,
        }
        part = file.with_suffix(".part")
        options = self.options(place, source, file)
        found = tune(original, split, method, task, count=tuning["trials"], by=by, retrained=gold, seed=place.seed,
                     fixed=job.settings, compute=options["compute"], on_row=options["on_row"],
                     trials_file=part, state_file=options["state_file"])  # fmt: skip
        trials = [asdict(t) for t in found.trials]
        write_json(file, plain({**told, "untouched": found.untouched, "trials": trials}))
        part.unlink(missing_ok=True)

    def keep(self, file: Path, outcome: Outcome) -> None:
        """Write the record without its pictures, and drop the state it could have gone on from."""
        outcome.record.details = {k: v for k, v in outcome.record.details.items() if k in (*KEPT, "label")}
        outcome.record.save(file)
        file.with_suffix(".state").unlink(missing_ok=True)

    def write(self, path: Path, model: torch.nn.Module) -> None:
        """Write a model, and drop the state it could have gone on from."""
        write_checkpoint(path, model.state_dict())
        path.with_suffix(".state").unlink(missing_ok=True)


def _lean(judged: Judged) -> Judged:
    """Without the features: a grid draws none, and of large data they are most of the memory."""
    sets = ("forget", "retain", "test", "test_forgotten")
    return replace(judged, **{n: replace(getattr(judged, n), features=None) for n in sets})
