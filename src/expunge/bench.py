"""A grid of experiments from one TOML file: methods x settings x splits x seeds x models x data.

Originals and retrained models are made once, named by the content they depend on, and reused; finished runs are skipped,
so that an interrupted grid goes on where it was and ends with the same table. Workers of one machine, or of a Ray
cluster, run the same function on the same jobs as the serial run.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import time
import tomllib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field, fields, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from . import presets
from .audit.accuracy import Judged, judge
from .checkpoint import load_into, read_checkpoint, write_checkpoint
from .classification import Classification
from .demo import place_of
from .errors import ExpungeError, MissingExtra, raise_all
from .experiment import Outcome, experiment, judge_run, seeded_factory, train
from .files import write_json
from .flags import SplitFlags, notice
from .method import Method, find, names
from .methods.retrain import Retrain
from .models import build
from .record import SCHEMA, Record, plain
from .run import Compute, Row, Run
from .sources import Source, load
from .split import Split
from .tune import tune

KEPT = (
    "table2x2",
    "worst_class",
    "mask",
    "per_class",
    "redistribution",
    "histograms",
)  # of a record's details


class OutOfTime(Exception):
    """The time given to this call is over; the run's state is kept and it goes on at the next call."""


@dataclass(frozen=True)
class Job:
    """One run, by values alone, so that any process can do it."""

    data: str
    model: str
    split: dict[str, Any]
    seed: int
    method: str
    label: str
    settings: dict[str, Any]
    recipe: dict[str, Any]
    compute: dict[str, Any]
    tuning: dict[str, Any] | None = None

    def key(self, *parts: str) -> str:
        """A name by content: of the fields `parts`, or of all but the label."""
        chosen = parts or tuple(f.name for f in fields(self) if f.name != "label")
        text = json.dumps([SCHEMA, {p: getattr(self, p) for p in chosen}], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:24]


@dataclass
class Grid:
    """A grid file, read and checked."""

    name: str
    title: str
    jobs: list[Job]
    threads: int = 1
    note: str = ""
    skipped: list[str] = field(default_factory=list)


def read_grid(path: Path, *, tuned: bool = False) -> Grid:
    """Read and check a grid. Raises `ExpungeError` with every problem at once."""
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ExpungeError(f"{path} cannot be read as a grid: {error}.") from error
    known = {
        "title",
        "data",
        "models",
        "seeds",
        "threads",
        "note",
        "recipe",
        "compute",
        "tune",
        "split",
        "method",
    }
    problems = [
        f"'{k}' is no entry of a grid; known: {', '.join(sorted(known))}." for k in values if k not in known
    ]
    problems += [
        f"the grid has no '{k}'; add it." for k in ("data", "seeds", "split", "method") if not values.get(k)
    ]
    problems += _unknown("recipe", values.get("recipe", {}), Retrain) + _unknown(
        "compute", values.get("compute", {}), Compute
    )
    for split in values.get("split", []):
        problems += _unknown("split", split, SplitFlags)
    raise_all([f"{path.name}: {p}" for p in problems], ExpungeError)
    tuning = {"trials": 4, "seed": 100, **values.get("tune", {})} if tuned else None
    jobs, skipped = [], []
    listed = list(_methods(values["method"]))
    axes = itertools.product(
        values["data"], values.get("models") or [""], values["split"], values["seeds"], listed
    )
    for data, model, split, seed, (name, label, settings, only) in axes:
        scenario = _scenario(split)
        kind = find(name)
        if (
            (kind.scenarios and scenario not in kind.scenarios)
            or "classification" not in kind.tasks
            or (only and scenario not in only)
        ):
            skipped.append(f"{label} ({scenario})")
            continue
        model = model or presets.MODELS.get(presets.kind(data), "cnn")
        recipe = plain(asdict(replace(presets.recipe(data), **values.get("recipe", {}))))
        own = presets.SETTINGS.get((presets.kind(data), scenario), {}).get(name, {})
        merged = {**own, **settings}
        problems += [f"{label}: {p}" for p in _unknown(name, merged, kind)]
        jobs.append(
            Job(data, model, split, seed, name, label, merged, recipe, values.get("compute", {}), tuning)
        )
    raise_all([f"{path.name}: {p}" for p in problems], ExpungeError)
    return Grid(
        path.stem,
        values.get("title", path.stem),
        jobs,
        values.get("threads", 1),
        values.get("note", ""),
        sorted(set(skipped)),
    )


def _unknown(what: str, given: dict[str, Any], kind: type) -> list[str]:
    allowed = {f.name for f in fields(kind)}
    return [
        f"'{k}' is no setting of {what}; known: {', '.join(sorted(allowed))}."
        for k in given
        if k not in allowed
    ]


def _scenario(split: dict[str, Any]) -> str:
    for flag, scenario in (
        ("forget_class", "class"),
        ("forget_share", "random"),
        ("forget_ids", "ids"),
        ("forget_group", "group"),
    ):
        if split.get(flag):
            return scenario
    raise ExpungeError(
        f"a split needs one of forget_class, forget_share, forget_ids, forget_group; {split} came."
    )


def _methods(entries: list[dict[str, Any]]) -> Iterator[tuple[str, str, dict[str, Any], list[str]]]:
    """(name, label, settings, scenarios) of each entry: `name = "all"` stands for all methods, `vary` for a product."""
    for entry in entries:
        which = (
            [n for n in names() if not find(n).exact and n not in entry.get("but", [])]
            if entry["name"] == "all"
            else [entry["name"]]
        )
        vary = entry.get("vary", {})
        for name in which:
            find(name)
            for values in itertools.product(*vary.values()):
                extra = dict(zip(vary, values, strict=True))
                label = entry.get("label", name) + "".join(f", {k} {v}" for k, v in extra.items())
                yield name, label, {**entry.get("settings", {}), **extra}, entry.get("only", [])


# ---- one job


@lru_cache(maxsize=2)
def _source(data: str) -> Source:
    return load(place_of(data))


class Worker:
    """Does jobs, with models in `folder` that are made once."""

    def __init__(
        self, folder: Path, device: str = "cpu", deadline: float | None = None, by: str = "validation"
    ):
        self.folder, self.device, self.deadline, self.by = folder, device, deadline, by

    def __call__(self, job: Job) -> Path:
        """The record's file of a finished job."""
        file = self.folder / "runs" / f"{job.key()}.json"
        if file.exists():
            return file
        self.check_time()
        source, split, task = self.setting(job, job.seed)
        original, start = self.original(job, source, split, task, job.seed)
        gold = self.retrained(job, source, split, task, original, start)
        method = self.method(job)
        outcome = experiment(original, split, method, task, original=start, retrained=gold, seed=job.seed,
                             **self.options(job, source, file))  # fmt: skip
        outcome.record.details["label"] = job.label
        self.keep(file, outcome)
        return file

    def references(self, job: Job) -> list[Record]:
        """The records of the original and of the retrained model of a job."""
        source, split, task = self.setting(job, job.seed)
        original, start = self.original(job, source, split, task, job.seed)
        gold = self.retrained(job, source, split, task, original, start)
        names_of = {"model": job.model, "data": source.name}
        before = judge_run(
            Run(original, split, task, job.seed),
            Retrain(**job.recipe),
            kind="original",
            retrained=gold,
            names=names_of,
        )
        again = Record.load(
            self.folder
            / "models"
            / f"retrain-{job.key('data', 'model', 'split', 'seed', 'recipe', 'compute')}.json"
        )
        return [before.record, again]

    def check_time(self) -> None:
        if self.deadline is not None and time.time() > self.deadline:
            raise OutOfTime

    def setting(self, job: Job, seed: int) -> tuple[Source, Split, Classification]:
        source = _source(job.data)
        values: dict[str, Any] = dict(job.split)
        if "forget_class" in values:
            values["forget_class"] = tuple(map(str, values["forget_class"]))
        flags = SplitFlags(**values)
        if flags.forget_class == ("seed",):  # another class for each seed
            flags = replace(flags, forget_class=(str(seed % len(source.classes)),))
        return (
            source,
            replace(flags, split_seed=seed).draw(source.train, source.test),
            Classification(len(source.classes)),
        )

    def options(self, job: Job, source: Source, file: Path) -> dict[str, Any]:
        def on_row(row: Row) -> None:
            self.check_time()

        return {"compute": Compute(**job.compute), "on_row": on_row, "factory": self.factory(job, source, job.seed),
                "state_file": file.with_suffix(".state") if self.deadline else None,
                "names": {"model": job.model, "data": source.name, "classes": source.classes}}  # fmt: skip

    def factory(self, job: Job, source: Source, seed: int) -> Callable[[], torch.nn.Module]:
        return seeded_factory(
            lambda: build(job.model, num_classes=len(source.classes), shape=source.shape).to(self.device),
            seed,
        )

    def original(
        self, job: Job, source: Source, split: Split, task: Classification, seed: int
    ) -> tuple[torch.nn.Module, Judged]:
        named = replace(job, seed=seed).key("data", "model", "seed", "recipe", "compute")
        path = self.folder / "models" / f"original-{named}-{split.train_hash[:12]}.safetensors"
        factory = self.factory(job, source, seed)
        if not path.exists():
            options = {
                k: v for k, v in self.options(job, source, path).items() if k not in ("names", "factory")
            }
            run = train(factory(), split, Retrain(**job.recipe), task, seed=seed, **options)
            self.write(path, run.model)
        model = self.read(path, factory)
        return model, judge(model, split, task, seed=seed)

    def retrained(
        self,
        job: Job,
        source: Source,
        split: Split,
        task: Classification,
        original: torch.nn.Module,
        start: Judged,
    ) -> Judged:
        path = (
            self.folder
            / "models"
            / f"retrain-{job.key('data', 'model', 'split', 'seed', 'recipe', 'compute')}.safetensors"
        )
        if not path.exists():
            outcome = experiment(original, split, Retrain(**job.recipe), task, kind="retrain", original=start, seed=job.seed,
                                 **self.options(job, source, path))  # fmt: skip
            self.keep(path.with_suffix(".json"), outcome)
            self.write(path, outcome.model)
        return judge(self.read(path, self.factory(job, source, job.seed)), split, task, seed=job.seed)

    def method(self, job: Job) -> Method:
        """The job's method, with settings tuned on a seed of their own if the grid asks for it."""
        method = find(job.method)(**job.settings)
        if not job.tuning or not type(method).search:
            return method
        place = replace(job, seed=job.tuning["seed"], label="")
        file = (
            self.folder
            / "tuned"
            / f"{place.key('data', 'model', 'split', 'method', 'settings', 'recipe', 'compute', 'tuning')}-{self.by}.json"
        )
        if not file.exists():
            source, split, task = self.setting(job, place.seed)
            original, start = self.original(job, source, split, task, place.seed)
            gold = self.retrained(place, source, split, task, original, start) if self.by == "gap" else None
            found = tune(original, split, method, task, count=job.tuning["trials"], by=self.by, retrained=gold, seed=place.seed,  # type: ignore[arg-type]
                         compute=Compute(**job.compute))  # fmt: skip
            write_json(
                file, plain({"by": self.by, "method": job.method, "trials": [asdict(t) for t in found]})
            )
        best = json.loads(file.read_text())["trials"][0]["settings"]
        # what the grid fixes (an ablation's axis, say) is not tuned away
        return replace(method, **{k: v for k, v in best.items() if k not in job.settings})

    def keep(self, file: Path, outcome: Outcome) -> None:
        outcome.record.details = {k: v for k, v in outcome.record.details.items() if k in (*KEPT, "label")}
        outcome.record.save(file)
        file.with_suffix(".state").unlink(missing_ok=True)

    def write(self, path: Path, model: torch.nn.Module) -> None:
        write_checkpoint(path, model.state_dict())
        path.with_suffix(".state").unlink(missing_ok=True)

    def read(self, path: Path, factory: Callable[[], torch.nn.Module]) -> torch.nn.Module:
        model = factory()
        load_into(model, read_checkpoint(path))
        return model.eval()


# ---- all jobs


def run_jobs(
    grid: Grid, worker: Worker, *, workers: int = 1, ray: bool = False
) -> Iterator[tuple[Job, Path]]:
    """Every job with the file of its record, as they finish; stops quietly when the worker's time is over.

    Jobs that share an original go to one worker each time, in order, so that no two make the same model at once.
    """
    torch.set_num_threads(grid.threads)
    groups: dict[str, list[Job]] = {}
    for job in grid.jobs:
        groups.setdefault(job.key("data", "model", "seed", "recipe", "compute"), []).append(job)
    if grid.jobs and grid.jobs[0].tuning:
        # tuning makes models of its own: one group does it for all before the others start
        workers_first = [[j for g in groups.values() for j in g[:1]][:1]] if workers > 1 else []
        for group in workers_first:
            for job in group:
                worker.method(job)
    yield from _ray(grid, groups, worker, workers) if ray else _processes(grid, groups, worker, workers)


def _work(group: list[Job], worker: Worker, threads: int) -> list[tuple[Job, Path]]:
    torch.set_num_threads(threads)
    return list(_serial(group, worker))


def _serial(group: Iterable[Job], worker: Worker) -> Iterator[tuple[Job, Path]]:
    for job in group:
        try:
            yield job, worker(job)
        except OutOfTime:
            return
        except (
            ExpungeError
        ) as error:  # one method that cannot serve a model must not cost the others their runs
            notice(f"{job.label}, seed {job.seed}: {error}")


def _processes(
    grid: Grid, groups: dict[str, list[Job]], worker: Worker, workers: int
) -> Iterator[tuple[Job, Path]]:
    if workers == 1:
        for group in groups.values():
            yield from _serial(group, worker)
        return
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor, as_completed

    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        for done in as_completed(
            [
                pool.submit(_work, g, w, grid.threads)
                for g, w in zip(groups.values(), _spread(worker), strict=False)
            ]
        ):
            yield from done.result()


def _spread(worker: Worker) -> Iterator[Worker]:
    """The worker once for each GPU in turn, if it works on one."""
    count = torch.cuda.device_count() if worker.device.startswith("cuda") else 0
    for number in itertools.count():
        device = f"cuda:{number % count}" if count else worker.device
        yield Worker(worker.folder, device, worker.deadline, worker.by)


def _ray(
    grid: Grid, groups: dict[str, list[Job]], worker: Worker, workers: int
) -> Iterator[tuple[Job, Path]]:
    try:
        import ray
    except ImportError as error:
        raise MissingExtra("a grid on several machines", "ray") from error
    if not ray.is_initialized():
        ray.init(address=None, num_cpus=workers, include_dashboard=False, log_to_driver=False)
    remote = ray.remote(num_cpus=1)(_work)
    waiting = [
        remote.remote(g, w, grid.threads) for g, w in zip(groups.values(), _spread(worker), strict=False)
    ]
    while waiting:
        done, waiting = ray.wait(waiting)
        yield from ray.get(done[0])
