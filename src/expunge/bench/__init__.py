"""Running a grid: every job once, in this process, in several, or on a Ray cluster, with the same results.

Finished jobs are skipped, so that an interrupted grid goes on where it was and ends with the same table.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path

import torch

from ..errors import MissingExtra
from ..records.statistics import grouped
from ..torch_utils.allocator import keep_freed_memory
from .grid import Grid, Job
from .work import OutOfTime, Worker

Result = tuple[Job, Path | str]  # the file of the record, or why there is none
Stage = tuple[
    str, list[list[Job]]
]  # what is done with each job ("" for the run itself), and the jobs that go together


def run_jobs(grid: Grid, worker: Worker, *, workers: int = 1, ray: bool = False) -> Iterator[Result]:
    """Every job with the file of its record, or with why it failed, as they finish; quiet when the time is over.

    Raises `MissingExtra` for `ray` where it is not installed.
    """
    torch.set_num_threads(grid.threads)
    if workers == 1 and not ray:
        yield from _serial(grid.jobs, worker)
        return
    plan = [
        stage
        for jobs in grouped(grid.jobs, lambda j: (j.data, j.model, str(j.split)))
        for stage in stages(jobs)
    ]
    for done in (_ray if ray else _pool)(plan, worker, workers, grid.threads):
        yield from done


def side_by_side(device: str, threads: int) -> int:
    """How many processes a machine has room for: one for each GPU, or for each `threads` of the cores it may use."""
    if device == "cuda":
        return max(1, torch.cuda.device_count())
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // threads)


def stages(jobs: list[Job]) -> list[Stage]:
    """What can run side by side: originals, then retrained models, then the runs of each method.

    Jobs that write one file stand in one group, and a group is done by one worker in order.
    """
    tuned = [j.tuned_on for j in jobs if j.tuning]
    places = {j.place: j for j in [*tuned, *jobs]}.values()
    judged = {j.place: j for j in jobs} | {j.place: j for j in tuned if (j.tuning or {}).get("by") == "gap"}
    return [
        ("original", grouped(places, lambda j: j.origin)),
        ("retrained", [[j] for j in judged.values()]),
        ("", grouped(jobs, lambda j: j.choice)),
    ]


def _work(what: str, group: list[Job], worker: Worker, threads: int) -> list[Result]:
    """One group in a process of its own: the models of a stage (nothing to tell) or finished jobs."""
    torch.set_num_threads(threads)
    if not what:
        return list(_serial(group, worker))
    try:
        for job in group:
            getattr(worker, f"make_{what}")(job)
    except Exception:  # told by the jobs that need the model
        pass
    return []


def _serial(group: Iterable[Job], worker: Worker) -> Iterator[Result]:
    for job in group:
        try:
            yield job, worker(job)
        except OutOfTime:
            return
        except Exception as error:
            # whatever it is: one method that cannot serve a model must not cost the others their runs
            yield job, f"{type(error).__name__}: {error}"


def _spread(worker: Worker) -> Iterator[Worker]:
    """The worker, once for each GPU in turn if it works on one."""
    count = torch.cuda.device_count() if worker.device == "cuda" else 0
    for number in itertools.count():
        yield Worker(worker.folder, f"cuda:{number % count}" if count else worker.device, worker.deadline)


def _pool(plan: list[Stage], worker: Worker, workers: int, threads: int) -> Iterator[list[Result]]:
    with ProcessPoolExecutor(workers, get_context("spawn"), initializer=keep_freed_memory) as pool:
        for what, groups in plan:
            pairs = zip(groups, _spread(worker), strict=False)
            for done in as_completed([pool.submit(_work, what, g, w, threads) for g, w in pairs]):
                yield done.result()


def _ray(plan: list[Stage], worker: Worker, workers: int, threads: int) -> Iterator[list[Result]]:
    try:
        import ray
    except ImportError as error:
        raise MissingExtra("a grid on several machines", "ray") from error
    if not ray.is_initialized():
        # a cluster that RAY_ADDRESS names has its own cores, and may not be told how many
        cores = None if os.environ.get("RAY_ADDRESS") else workers
        ray.init(num_cpus=cores, include_dashboard=False, log_to_driver=False)
    gpus = 0.0
    if worker.device == "cuda":  # what does not ask for a GPU is shown none; each sees its own as the first
        gpus = min(1.0, ray.cluster_resources().get("GPU", 0.0) / workers)
    remote = ray.remote(num_cpus=1, num_gpus=gpus)(_work)
    for what, groups in plan:
        waiting = [remote.remote(what, group, worker, threads) for group in groups]
        while waiting:
            done, waiting = ray.wait(waiting)
            yield ray.get(done[0])
