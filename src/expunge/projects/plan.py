"""The plan of a run: what it would cost, from ten timed steps, and whether retraining would cost less."""

from __future__ import annotations

import shutil
import warnings
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from ..data.split import Split
from ..methods.retrain import Retrain
from ..summaries import summary
from ..tasks.task import Task
from ..training.execute import execute
from ..training.method import GradientMethod, Method
from ..training.run import Compute, Run

# steps that are timed
TIMED = 10


@dataclass(frozen=True)
class Plan:
    """Hold what a run would do and cost.

    Args:
        request: The requests in words.
        method: Name of the method.
        forget: Number of samples to forget.
        retain: Number of samples the method may train on.
        earlier: Number of samples that earlier requests removed.
        copies: Copies of forget samples that were found, in words; empty without any.
        seconds: Estimated seconds of the run, or None for a method without steps.
        retrain_seconds: Estimated seconds of retraining with the recipe.
        memory: Peak memory of the timed steps in bytes, or None where it is unknown.
        disk: Bytes that the run writes, about.
        free: Free bytes on the disk, or None for a session.
    """

    request: str
    method: str
    forget: int
    retain: int
    earlier: int
    copies: str
    seconds: float | None
    retrain_seconds: float
    memory: int | None
    disk: int
    free: int | None

    @property
    def retraining_is_cheaper(self) -> bool:
        """Whether retraining is estimated to take less time than the run."""
        return self.seconds is not None and self.retrain_seconds < self.seconds

    def __repr__(self) -> str:
        return summary(*self.lines())

    def lines(self) -> list[str]:
        """Return the plan as sentences."""
        seconds = "not estimated (no steps)" if self.seconds is None else f"about {self.seconds:.1f} s"
        memory = "" if self.memory is None else f"peak memory: about {self.memory / 2**20:,.0f} MiB"
        room = "" if self.free is None else f", {self.free / 2**20:,.0f} MiB free"
        return [
            line
            for line in (
                f"plan: forget {self.request}: {self.forget:,} samples, by {self.method}",
                f"retained samples: {self.retain:,}; removed by earlier requests: {self.earlier:,}",
                self.copies,
                f"time: {seconds}, from {TIMED} timed steps; retraining: about {self.retrain_seconds:.1f} s",
                "retraining is cheaper than this run; train a new model without these samples."
                if self.retraining_is_cheaper
                else "",
                memory,
                f"disk: about {self.disk / 2**20:,.1f} MiB to write{room}",
                "there is not enough room on the disk."
                if self.free is not None and self.free < self.disk
                else "",
            )
            if line
        ]


def make_plan(
    model: nn.Module,
    split: Split,
    method: Method,
    recipe: Retrain,
    task: Task,
    *,
    request: str,
    compute: Compute | None = None,
    folder: Path | None = None,
) -> Plan:
    """Return the plan of a run. It times ten steps of method and recipe on a copy of the model; nothing changes.

    Args:
        model: The model to unlearn from.
        split: The split of the request, after earlier requests.
        method: The method.
        recipe: The training recipe, with which retraining is compared.
        task: The task of the model.
        request: The request in words.
        compute: How the arithmetic is done.
        folder: Folder that would be written to.
    """
    seconds, memory = _estimate(model, split, method, task, compute)
    retrain_seconds, _ = _estimate(model, split, recipe, task, compute)
    size = sum(t.numel() * t.element_size() for t in model.state_dict().values())
    copies = getattr(split, "copies", None)
    return Plan(
        request=request,
        method=method.name(),
        forget=len(split.forget),
        retain=len(split.retain),
        earlier=len(split.removed),
        copies="" if not copies else str(copies),
        seconds=seconds,
        retrain_seconds=retrain_seconds or 0.0,
        memory=memory,
        # the checkpoint, and record, receipt and report beside it
        disk=size + 2**20,
        free=None if folder is None else shutil.disk_usage(folder).free,
    )


def _estimate(
    model: nn.Module, split: Split, method: Method, task: Task, compute: Compute | None
) -> tuple[float | None, int | None]:
    """Return the estimated seconds of a run, and the peak memory of its timed steps."""
    if not isinstance(method, GradientMethod):
        return None, None
    half = max(1, TIMED // 2) * method.batch_size
    few = replace(
        split,
        forget=split.forget.take(torch.arange(min(half, len(split.forget)))),
        retain=split.retain.take(torch.arange(min(half, len(split.retain)))),
        earlier=(),
    )
    short = replace(method, epochs=1, max_drop=100.0)
    with warnings.catch_warnings():
        # warnings of a run this short mean nothing
        warnings.simplefilter("ignore")
        timed = execute(model, few, short, task, compute=compute)
    whole = Run(model, split.for_method, task, 0, compute or Compute())
    return timed.seconds / max(1, timed.step) * method.steps(whole), timed.peak_memory
