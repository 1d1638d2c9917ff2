"""The command that runs a grid."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import tyro
from rich.console import Console
from rich.live import Live

from ..bench import Worker, default_workers, run_jobs
from ..bench.grid import Grid, Job, read_grid
from ..bench.page import page
from ..bench.results import Entry, entry, revision, write_result
from ..errors import ExpungeError
from ..records.record import Record
from .flags import check_device
from .table import result_table


def bench(
    grid: tyro.conf.Positional[Path | None] = None,
    *,
    out: Path = Path("benchmarks/cache"),
    results: Path = Path("benchmarks/results"),
    tune: bool = False,
    tune_by: Literal["validation", "gap"] = "validation",
    jobs: int | None = None,
    ray: bool = False,
    minutes: float | None = None,
    device: str = "cpu",
    note: str = "",
    make_page: Path | None = None,
) -> None:
    """Run a grid of experiments from a TOML file; finished runs are skipped. Exit code 1 if any run failed.

    Args:
        grid: The grid file; may be left out with --make-page.
        out: Folder for models and records, shared by all grids; the same folder again goes on where a call ended.
        results: Folder for the grid's result (JSON).
        tune: Give each method the same number of trials before its runs.
        tune_by: Choose trials on validation data, or by the gap to Retrain (an oracle that nobody has who must unlearn).
        jobs: Processes that work side by side; one for each core, or for each GPU, if not given. Seconds of runs that share
            a GPU or a memory bus are longer: give 1 where they matter.
        ray: Run the jobs on a Ray cluster (extra `ray`) instead of local processes.
        minutes: Stop cleanly after this time; give the same command again to go on.
        device: Where models are: cpu or cuda.
        note: What the reader of the result should know of this machine.
        make_page: Markdown page to make from all results.
    """
    sound = True
    if grid is not None:
        # as it can be repeated elsewhere: no folder of this machine
        command = f"expunge bench {grid}" + (f" --tune --tune-by {tune_by}" if tune else "")
        check_device(device)
        read = read_grid(grid, tuned=tune_by if tune else None)
        if jobs is not None and jobs < 1:
            raise ExpungeError(
                f"jobs is {jobs}; at least one process must work, or leave it out for one a core."
            )
        many = default_workers(device, read.threads) if jobs is None else jobs
        sound = _run(read, command, out, results, many, ray, minutes, device, note)
    elif make_page is None:
        raise ExpungeError("name a grid file, or --make-page FILE to make the page of the results there are.")
    if make_page is not None:
        page(results, make_page)
        print(f"page: {make_page}")
    if not sound:
        raise SystemExit(1)


def _run(
    read: Grid,
    command: str,
    out: Path,
    results: Path,
    jobs: int,
    ray: bool,
    minutes: float | None,
    device: str,
    note: str,
) -> bool:
    """Run what is not yet done, and write what there is; whether no run failed."""
    now = revision()  # the code may be changed while the grid runs
    worker = Worker(out, device, None if minutes is None else time.time() + 60 * minutes)
    done: dict[str, tuple[Job, Record]] = {}
    failed: dict[str, tuple[Job, str]] = {}
    with Live(console=Console(), refresh_per_second=2) as live:
        for job, found in run_jobs(read, worker, workers=jobs, ray=ray):
            if isinstance(found, str):
                failed[job.key()] = (job, found)
                continue
            record = Record.load(found)
            # the label says what the grid varies; settings that trials chose would part the seeds of a row
            record.method, record.settings = job.label, {}
            done[job.key()] = (job, record)
            same = [
                r for j, r in done.values() if (j.data, j.model, j.split) == (job.data, job.model, job.split)
            ]
            live.update(result_table(same, f"{len(done)} of {len(read.jobs)} runs; {job.data}, {job.split}"))
    tuned = [json.loads(p.read_text(encoding="utf-8")) for p in _tunings(read, worker)]
    why = {f"{j.data}, {j.model}, {j.label}, {j.split}, seed {j.seed}": w for j, w in failed.values()}
    file = results / f"{read.name}.json"
    beside = f"{jobs} runs side by side." if jobs > 1 else ""  # their seconds are those of a shared machine
    write_result(file, read.title, command, _entries(read, worker, done), note=" ".join(filter(None, (read.note, beside, note))),
                 tuned=tuned or None, failed=why, revised=now, published=read.published)  # fmt: skip
    print(f"result: {file} ({len(done)} of {len(read.jobs)} runs)")
    for what, said in why.items():
        print(f"failed: {what}: {said}", file=sys.stderr)
    if len(done) + len(failed) < len(read.jobs):
        print("the time is over: give the same command again to go on", file=sys.stderr)
    return not failed


def _tunings(read: Grid, worker: Worker) -> list[Path]:
    """The files of the trials that this grid's settings were chosen from."""
    files = {
        worker.folder / "tuned" / f"{j.choice}-{(j.tuning or {}).get('by', 'validation')}.json"
        for j in read.jobs
    }
    return sorted(f for f in files if f.exists())


def _entries(read: Grid, worker: Worker, done: dict[str, tuple[Job, Record]]) -> list[Entry]:
    """The runs in the grid's order, the original and Retrain of each split and seed before them."""
    found: list[Entry] = []
    seen: set[str] = set()
    for job in read.jobs:
        if job.key() not in done:
            continue
        if job.place not in seen:
            seen.add(job.place)
            for record, label in zip(worker.references(job), ("Original", "Retrain"), strict=True):
                found.append(entry(record, label, job.split))
        found.append(entry(done[job.key()][1], job.label, job.split, job.vary))
    return found


COMMANDS: dict[str, Callable[..., Any]] = {"bench": bench}
