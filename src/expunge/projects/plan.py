"""Plan a request before it is run: how many samples, how long, how much memory and disk, and what retraining would cost."""

from __future__ import annotations

import copy
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from statistics import median

import torch
from torch import nn

from ..data.past_requests import requests_of
from ..data.split import Split
from ..methods.retrain import Retrain
from ..torch_utils.module_state import seeded
from ..torch_utils.peak_memory import peak_memory, reset_peak_memory
from ..training.execute import check_run
from ..training.loop import make_optimizer
from ..training.method import GradientMethod, Method
from ..training.run import Run
from .answered import Setting

# Steps that are timed.
TIMED_STEPS = 10


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Hold what a run would do and cost.

    Args:
        samples: Number of samples of each request.
        forget: Number of different samples of all requests together.
        retain: Number of retained samples.
        earlier: Number of samples that earlier requests removed.
        copies: Sentences on copies of the samples.
        method: Name of the method.
        steps: Number of steps of the run; None if the method has no training loop.
        seconds: Estimated seconds of its steps, without mask and audit; None if it has no training loop.
        memory: Peak memory of the timed steps in bytes (on a CPU that of the process); None where it is unknown.
        disk: Bytes that the run writes.
        free: Free bytes on that disk.
        retrain_seconds: Estimated seconds of retraining by the recipe.
    """

    samples: list[int]
    forget: int
    retain: int
    earlier: int
    copies: list[str]
    method: str
    steps: int | None
    seconds: float | None
    memory: int | None
    disk: int
    free: int
    retrain_seconds: float

    @property
    def retraining_is_cheaper(self) -> bool:
        """Whether retraining without all requests is estimated to take less time."""
        return self.seconds is not None and self.retrain_seconds < self.seconds


def make_plan(
    model: nn.Module,
    splits: Sequence[Split],
    setting: Setting,
    recipe: Retrain,
    folder: Path,
    model_file: Path,
) -> Plan:
    """Plan a run. Ten steps of the method and of the recipe are timed on copies of the model.

    Args:
        model: The latest model. It is left as it was.
        splits: The split of each request.
        setting: Data, task, method and seeds.
        recipe: The training recipe of the data.
        folder: Where the run writes.
        model_file: The latest checkpoint.

    Raises:
        ExpungeError: The method does not fit.
    """
    split = setting.union(splits).after(requests_of(model), rehearse=setting.rehearse)
    method = setting.method
    check_run(method, split, setting.task, seed=setting.seed, compute=setting.compute, model=model)
    steps, seconds, memory = _timed(model, split.for_method, method, setting)
    _, retraining, _ = _timed(model, split, recipe, setting)
    ids = sum(len(name) for name in split.forget.ids)
    return Plan(
        samples=[len(s.forget) for s in splits],
        forget=len(split.forget),
        retain=len(split.retain),
        earlier=len(split.removed),
        copies=[text for s in splits for text in s.copies.sentences],
        method=method.name(),
        steps=steps,
        seconds=seconds,
        memory=memory,
        # the checkpoint, and about 100 bytes per id in secret and request file
        disk=model_file.stat().st_size + 100 * len(split.forget) + 2 * ids,
        free=shutil.disk_usage(folder).free,
        retrain_seconds=retraining or 0.0,
    )


def _timed(
    model: nn.Module, split: Split, method: Method, setting: Setting
) -> tuple[int | None, float | None, int | None]:
    """Return number of steps, seconds and peak memory of a run, from the median of ten steps."""
    if not isinstance(method, GradientMethod):
        return None, None, None
    run = Run(copy.deepcopy(model), split, setting.task, setting.seed, setting.compute, source=model)
    run.factory = setting.factory
    short = replace(method, density=1.0)
    with seeded(setting.seed, run.device):
        reset_peak_memory(run.device)
        short.prepare(run)
        optimizer = make_optimizer(short, run.model)
        durations, started = [], time.perf_counter()
        for forget, retain in islice(short.pairs(run), TIMED_STEPS):
            short.train_mode(run)
            optimizer.zero_grad(set_to_none=True)
            short.loss(run, forget, retain).backward()
            optimizer.step()
            short.after_step(run, optimizer)
            if run.device.type == "cuda":
                torch.cuda.synchronize(run.device)
            durations.append(time.perf_counter() - started)
            started = time.perf_counter()
        memory = peak_memory(run.device)
    steps = method.steps(run)
    return steps, steps * median(durations) if durations else None, memory
