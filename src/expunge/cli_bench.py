"""The command that runs a grid."""

from __future__ import annotations

import json
import shlex
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import tyro
from rich.console import Console
from rich.live import Live

from .bench import Grid, Job, Worker, read_grid, run_jobs
from .bench_page import Entry, entry, page, write_result
from .errors import ExpungeError
from .record import Record
from .table import result_table


def bench(
    grid: tyro.conf.Positional[Path | None] = None,
    *,
    out: Path = Path("benchmarks/cache"),
    results: Path = Path("benchmarks/results"),
    tune: bool = False,
    tune_by: Literal["validation", "gap"] = "validation",
    jobs: int = 1,
    ray: bool = False,
    minutes: float | None = None,
    device: str = "cpu",
    make_page: Path | None = None,
) -> None:
    """Run a grid of experiments from a TOML file; finished runs are skipped.

    Args:
        grid: The grid file; may be left out with --make-page.
        out: Folder for models and records; the same folder again goes on where a call ended.
        results: Folder for the grid's result (JSON).
        tune: Give each method the same number of trials before its runs.
        tune_by: Choose trials on validation data, or by the gap to Retrain (an oracle that nobody has who must unlearn).
        jobs: Processes that work side by side.
        ray: Run the jobs on a Ray cluster (extra `ray`) instead of local processes.
        minutes: Stop cleanly after this time; give the same command again to go on.
        device: Where models are: cpu or cuda.
        make_page: Markdown page to make from all results.
    """
    if grid is not None:
        _run(read_grid(grid, tuned=tune), out, results, tune_by, jobs, ray, minutes, device)
    elif make_page is None:
        raise ExpungeError("name a grid file, or --make-page FILE to make the page of the results there are.")
    if make_page is not None:
        page(results, make_page)
        print(f"page: {make_page}")


def _run(
    read: Grid, out: Path, results: Path, by: str, jobs: int, ray: bool, minutes: float | None, device: str
) -> None:
    worker = Worker(out / read.name, device, None if minutes is None else time.time() + 60 * minutes, by)
    done: dict[str, tuple[Job, Record]] = {}
    console = Console()
    with Live(console=console, refresh_per_second=2) as live:
        for job, path in run_jobs(read, worker, workers=jobs, ray=ray):
            record = Record.load(path)
            record.method = job.label
            done[job.key()] = (job, record)
            same = [
                r for j, r in done.values() if (j.data, j.model, j.split) == (job.data, job.model, job.split)
            ]
            live.update(result_table(same, f"{len(done)} of {len(read.jobs)} runs; {job.data}, {job.split}"))
    entries = _entries(read, worker, done)
    tuned = [json.loads(p.read_text()) for p in sorted((worker.folder / "tuned").glob("*.json"))] or None
    write_result(
        results / f"{read.name}.json",
        read.title,
        shlex.join(["expunge", *sys.argv[1:]]),
        entries,
        note=read.note,
        tuned=tuned,
    )
    print(f"result: {results / (read.name + '.json')} ({len(done)} of {len(read.jobs)} runs)")
    if len(done) < len(read.jobs):
        print("the time is over: give the same command again to go on", file=sys.stderr)


def _entries(read: Grid, worker: Worker, done: dict[str, tuple[Job, Record]]) -> list[Entry]:
    """The runs in the grid's order, the original and Retrain of each split and seed before them."""
    found: list[Entry] = []
    seen: set[str] = set()
    for job in read.jobs:
        if job.key() not in done:
            continue
        place = job.key("data", "model", "split", "seed", "recipe", "compute")
        if place not in seen:
            seen.add(place)
            for record, label in zip(worker.references(job), ("Original", "Retrain"), strict=True):
                found.append(entry(record, label, job.split))
        found.append(entry(done[job.key()][1], job.label, job.split))
    return found


COMMANDS: dict[str, Callable[..., Any]] = {"bench": bench}
