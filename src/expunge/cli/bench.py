"""`expunge bench`: run a grid of experiments."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from ..errors import ExpungeError, raise_all
from .checks import device_problems
from .settings_flags import FLAT, with_help

if TYPE_CHECKING:
    from ..bench.grid import Grid, Job
    from ..bench.results import Entry
    from ..bench.worker import Worker
    from ..records.record import Record


@with_help
@dataclass(frozen=True, kw_only=True)
class BenchFlags:
    """Where a grid runs, and where its results go.

    Args:
        out: Folder for models and records. All grids can share it, and finished runs in it are skipped.
        results: Folder for the result of the grid (JSON).
        tune: Give each method the same number of trials before its runs.
        tune_by: Choose trials by validation data, or by the gap to Retrain. The gap is an oracle: whoever has to unlearn
            does not have the retrained model.
        jobs: Number of parallel processes. By default one per core, or one per GPU. Runs that share a GPU or the memory
            bus take longer: give 1 where the seconds matter.
        ray: Run the jobs on a Ray cluster (extra `ray`) instead of local processes.
        only: Names of methods: run only these. The flag can be given several times. By default, all of the grid.
        seeds: Seeds of the grid: run only these. The flag can be given several times. By default, all of the grid.
        minutes: Stop cleanly after this time. Give the same command again to go on.
        device: Where the models are: cpu or cuda.
        note: What a reader of the result should know about this machine.
        make_page: Markdown page to write from all results.
    """

    out: Path = Path("benchmarks/cache")
    results: Path = Path("benchmarks/results")
    tune: bool = False
    tune_by: Literal["validation", "gap"] = "validation"
    jobs: int | None = None
    ray: bool = False
    only: tuple[str, ...] = ()
    seeds: tuple[int, ...] = ()
    minutes: float | None = None
    device: str = "cpu"
    note: str = ""
    make_page: Path | None = None

    def problems(self) -> list[str]:
        """Return what is wrong with the flags, one sentence each."""
        problems = device_problems(self.device)
        if self.jobs is not None and self.jobs < 1:
            problems.append(
                f"jobs is {self.jobs}; at least one process must work, or leave it out for one a core."
            )
        return problems


def bench(
    grid: Path | None = None,
    /,
    *,
    flags: Annotated[BenchFlags, FLAT] = BenchFlags(),
) -> int:
    """Run the grid of experiments in a TOML file.

    Finished runs are skipped. Exit code 1 if any run failed. docs/grids.md describes the file.

    Args:
        grid: The grid file. It may be missing with --make-page.
        flags: Where the grid runs, and where its results go.
    """
    from ..bench.grid import read_grid
    from ..bench.page import page

    sound = True
    if grid is not None:
        raise_all(flags.problems())
        chosen = select(read_grid(grid, tuned=flags.tune_by if flags.tune else None), flags.only, flags.seeds)
        sound = GridRun(chosen, grid, flags).run()
    elif flags.make_page is None:
        raise ExpungeError("name a grid file, or --make-page FILE to make the page of the results there are.")
    if flags.make_page is not None:
        page(flags.results, flags.make_page)
        print(f"page: {flags.make_page}")
    return 0 if sound else 1


def select(grid: Grid, only: Sequence[str], seeds: Sequence[int]) -> Grid:
    """Return a grid with the runs of some methods and some seeds. Empty sequences keep all.

    Args:
        grid: The grid.
        only: Names of methods.
        seeds: Seeds.

    Raises:
        ExpungeError: The grid does not have a method or a seed.
    """
    problems = []
    for word, wanted, known in (
        ("method", only, list(dict.fromkeys(j.method for j in grid.jobs))),
        ("seed", seeds, list(dict.fromkeys(j.seed for j in grid.jobs))),
    ):
        problems += [
            f"the grid {grid.name} has no {word} {value}; choose from {', '.join(map(str, known))}."
            for value in wanted
            if value not in known
        ]
    raise_all(problems)
    kept = [j for j in grid.jobs if (not only or j.method in only) and (not seeds or j.seed in seeds)]
    return replace(grid, jobs=kept)


class GridRun:
    """One call of the command for a grid.

    Args:
        grid: What the grid file asks for.
        file: The grid file.
        flags: The flags of the call.
    """

    def __init__(self, grid: Grid, file: Path, flags: BenchFlags):
        from ..bench.scheduler import default_workers
        from ..bench.worker import Worker

        self.grid, self.flags = grid, flags
        # the command as it can be repeated elsewhere, without folders of this machine
        self.command = f"expunge bench {file}" + (f" --tune --tune-by {flags.tune_by}" if flags.tune else "")
        self.command += "".join(f" --only {name}" for name in flags.only)
        self.command += "".join(f" --seeds {seed}" for seed in flags.seeds)
        self.jobs = default_workers(flags.device, grid.threads) if flags.jobs is None else flags.jobs
        deadline = None if flags.minutes is None else time.time() + 60 * flags.minutes
        self.worker: Worker = Worker(flags.out, flags.device, deadline)
        self.done: dict[str, tuple[Job, Record]] = {}
        self.failed: dict[str, tuple[Job, str]] = {}

    def run(self) -> bool:
        """Run the jobs that are not finished, write the result, and return whether no job failed."""
        from rich.console import Console
        from rich.live import Live

        from ..bench.results import revision
        from ..bench.scheduler import run_jobs

        # before the runs: the code may change while the grid runs
        now = revision()
        with Live(console=Console(), refresh_per_second=2) as live:
            for job, result in run_jobs(self.grid, self.worker, workers=self.jobs, ray=self.flags.ray):
                self._add(job, result, live)
        self._write(now)
        if len(self.done) + len(self.failed) < len(self.grid.jobs):
            print("the time is over: give the same command again to go on", file=sys.stderr)
        return not self.failed

    def _add(self, job: Job, result: Path | str, live: object) -> None:
        """Take the result of one job, a file or the reason of a failure, and update the table."""
        from ..records.record import Record
        from .table import result_table

        if isinstance(result, str):
            self.failed[job.key()] = (job, result)
            return
        record = Record.load(result)
        # the label says what the grid varies; settings chosen by trials would put each seed in a row of its own
        record.method, record.settings = job.label, {}
        self.done[job.key()] = (job, record)
        same_table = [
            r for j, r in self.done.values() if (j.data, j.model, j.split) == (job.data, job.model, job.split)
        ]
        title = f"{len(self.done)} of {len(self.grid.jobs)} runs; {job.data}, {job.split}"
        live.update(result_table(same_table, title))  # type: ignore[attr-defined]

    def _write(self, revision: str | None) -> None:
        """Write the result of all finished runs, and print the failures."""
        from ..bench.results import write_result

        tuned = [json.loads(file.read_text(encoding="utf-8")) for file in self._tuning_files()]
        reasons = {
            f"{j.data}, {j.model}, {j.label}, {j.split}, seed {j.seed}": why
            for j, why in self.failed.values()
        }
        # the seconds of parallel runs are those of a shared machine
        parallel = f"{self.jobs} runs side by side." if self.jobs > 1 else ""
        file = self.flags.results / f"{self.grid.name}.json"
        write_result(
            file,
            self.grid.title,
            self.command,
            self._entries(),
            note=" ".join(filter(None, (self.grid.note, parallel, self.flags.note))),
            tuned=tuned or None,
            failed=reasons,
            revised=revision,
            published=self.grid.published,
        )
        print(f"result: {file} ({len(self.done)} of {len(self.grid.jobs)} runs)")
        for job, why in reasons.items():
            print(f"failed: {job}: {why}", file=sys.stderr)

    def _tuning_files(self) -> list[Path]:
        """Return the files of the trials that chose this grid's settings."""
        folder = self.worker.folder / "tuned"
        files = {
            folder / f"{j.choice}-{(j.tuning or {}).get('by', 'validation')}.json" for j in self.grid.jobs
        }
        return sorted(file for file in files if file.exists())

    def _entries(self) -> list[Entry]:
        """Return the runs in the grid's order, the original and Retrain of each split and seed before them."""
        from ..bench.results import entry

        entries: list[Entry] = []
        places: set[str] = set()
        for job in self.grid.jobs:
            if job.key() not in self.done:
                continue
            if job.place not in places:
                places.add(job.place)
                for record, label in zip(self.worker.references(job), ("Original", "Retrain"), strict=True):
                    entries.append(entry(record, label, job.split))
            entries.append(entry(self.done[job.key()][1], job.label, job.split, job.vary))
        return entries
