"""Run the jobs of a grid: in this process, in several processes, or on a Ray cluster.

All three ways give the same results. Finished jobs are skipped, so an interrupted grid continues and ends with the same
table.
"""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context, parent_process
from pathlib import Path
from typing import Protocol

import torch

from ..errors import MissingExtra
from ..records.statistics import grouped
from ..secret_text import error_text
from ..torch_utils.allocator import keep_freed_memory
from .grid import Grid, Job

# The file of the record, or the reason why there is none.
Result = tuple[Job, Path | str]
# What is made for each job ("" is the run itself), and groups of jobs. One worker does a group in order.
Stage = tuple[str, list[list[Job]]]


class OutOfTime(Exception):
    """Signal that the deadline has passed. The state of the run is kept, and the next call continues it."""


class Worker(Protocol):
    """What runs jobs: `expunge.bench.worker.Worker`."""

    device: str

    def __call__(self, job: Job) -> Path: ...
    def on(self, device: str) -> Worker: ...


def run_jobs(grid: Grid, worker: Worker, *, workers: int = 1, ray: bool = False) -> Iterator[Result]:
    """Run every job of a grid, and yield each one when it finishes.

    The iterator ends early, without an error, when the worker's deadline has passed.

    Args:
        grid: The grid.
        worker: Runs one job.
        workers: Number of processes.
        ray: Run the jobs on a Ray cluster instead of local processes.

    Yields:
        The job, and the file of its record. If the job failed, the error as text instead of the file.

    Raises:
        MissingExtra: If `ray` is wanted but not installed.

    Example:
        >>> for job, result in run_jobs(read_grid(Path("grid.toml")), Worker(Path("cache"))):
        ...     print(job.label, result)
    """
    torch.set_num_threads(grid.threads)
    if workers == 1 and not ray:
        yield from _in_order(grid.jobs, worker)
        return
    plan = [
        stage
        for jobs in grouped(grid.jobs, lambda j: (j.data, j.model, str(j.split)))
        for stage in plan_stages(jobs)
    ]
    run_plan = _run_on_ray if ray else _run_in_processes
    for results in run_plan(plan, worker, workers, grid.threads):
        yield from results


def default_workers(device: str, threads: int) -> int:
    """Return how many processes a machine has room for: one for each GPU, or one for each `threads` cores."""
    if device == "cuda":
        return max(1, torch.cuda.device_count())
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // threads)


def plan_stages(jobs: list[Job]) -> list[Stage]:
    """Plan jobs that can run in parallel: originals, then retrained models, then the runs of each method.

    Jobs that write the same file are in the same group.

    Args:
        jobs: Jobs of one data set, model and split.

    Returns:
        Three stages, in order.
    """
    tuning = [j.tuned_on for j in jobs if j.tuning]
    with_original = {j.place: j for j in [*tuning, *jobs]}.values()
    tuned_by_gap = [j for j in tuning if (j.tuning or {}).get("by") == "gap"]
    with_retrained = {j.place: j for j in [*jobs, *tuned_by_gap]}
    return [
        ("original", grouped(with_original, lambda j: j.origin)),
        ("retrained", [[j] for j in with_retrained.values()]),
        ("", grouped(jobs, lambda j: j.choice)),
    ]


def _run_group(what: str, group: list[Job], worker: Worker, threads: int) -> list[Result]:
    """Make the models of one group, or run its jobs, in a process of its own. Only jobs give results."""
    torch.set_num_threads(threads)
    if not what:
        return list(_in_order(group, worker))
    try:
        for job in group:
            getattr(worker, f"make_{what}")(job)
    except Exception:
        # the jobs that need the model will report the error
        pass
    return []


def _in_order(group: Iterable[Job], worker: Worker) -> Iterator[Result]:
    for job in group:
        try:
            yield job, worker(job)
        except OutOfTime:
            return
        except Exception as error:
            # any error: a method that cannot run on a model must not stop the other runs
            yield job, error_text(error)


def _worker_of_each_gpu(worker: Worker) -> Iterator[Worker]:
    """Yield copies of the worker forever. If it uses CUDA, they take the GPUs in turn."""
    count = torch.cuda.device_count() if worker.device == "cuda" else 0
    for number in itertools.count():
        yield worker.on(f"cuda:{number % count}" if count else worker.device)


def _begin_worker() -> None:
    """Prepare a worker process. It ends when the process that started it was killed: nobody would take its results.

    Without this, a worker waits forever for the next job, and the one that runs a job goes on writing beside the same
    command, given again.
    """
    keep_freed_memory()
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _run_in_processes(
    plan: list[Stage], worker: Worker, workers: int, threads: int
) -> Iterator[list[Result]]:
    with ProcessPoolExecutor(workers, get_context("spawn"), initializer=_begin_worker) as pool:
        for what, groups in plan:
            pairs = zip(groups, _worker_of_each_gpu(worker), strict=False)
            for future in as_completed([pool.submit(_run_group, what, g, w, threads) for g, w in pairs]):
                yield future.result()


def _run_on_ray(plan: list[Stage], worker: Worker, workers: int, threads: int) -> Iterator[list[Result]]:
    try:
        import ray
    except ImportError as error:
        raise MissingExtra("a grid on several machines", "ray") from error
    if not ray.is_initialized():
        # the cluster of RAY_ADDRESS has its own number of cores, and Ray refuses another one
        cores = None if os.environ.get("RAY_ADDRESS") else workers
        ray.init(num_cpus=cores, include_dashboard=False, log_to_driver=False)
    gpus = 0.0
    if worker.device == "cuda":
        # Ray hides GPUs from a task that asks for none; each task sees its own GPU as the first
        gpus = min(1.0, ray.cluster_resources().get("GPU", 0.0) / workers)
    remote = ray.remote(num_cpus=1, num_gpus=gpus)(_run_group)
    for what, groups in plan:
        waiting = [remote.remote(what, group, worker, threads) for group in groups]
        while waiting:
            done, waiting = ray.wait(waiting)
            yield ray.get(done[0])
