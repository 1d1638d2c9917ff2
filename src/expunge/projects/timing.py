"""Time a short run and an evaluation, to estimate what a whole one costs."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, fields
from itertools import islice, pairwise
from statistics import fmean
from typing import Any

import torch
from torch import Tensor, nn

from ..data.samples import Samples
from ..data.split import Split
from ..torch_utils.peak_memory import peak_memory, reset_peak_memory
from ..training.execute import execute
from ..training.method import GradientMethod, Method
from ..training.run import Run
from .answered import Setting

# Steps that are timed.
TIMED_STEPS = 10
# Samples of which the evaluation is timed.
TIMED_SAMPLES = 1024


@dataclass(frozen=True)
class RunCost:
    """Hold what one run would cost.

    Args:
        steps: Number of its steps.
        seconds: Estimated seconds, with mask and evaluations.
        memory: Peak memory of the timed run in bytes (on a CPU that of the process); None where it is unknown.
        model_bytes: Size of the model in bytes.
    """

    steps: int
    seconds: float
    memory: int | None
    model_bytes: int


def time_run(model: nn.Module, split: Split, method: Method, setting: Setting) -> RunCost | None:
    """Return the cost of a run, from a run of ten steps on a copy of the model; None for a method without a training loop."""
    if not isinstance(method, GradientMethod):
        return None
    moments: list[float] = []
    device = next(model.parameters()).device
    reset_peak_memory(device)
    started = time.perf_counter()
    with warnings.catch_warnings():
        # a short run forgets nothing, which says nothing of a whole one
        warnings.simplefilter("ignore")
        run = execute(
            model,
            split,
            _shortened(method, moments),
            setting.task,
            seed=setting.seed,
            compute=setting.compute,
            factory=setting.factory,
        )
    whole = time.perf_counter() - started
    durations = [after - before for before, after in pairwise(moments)]
    steps = method.steps(
        Run(model, split.for_method, setting.task, setting.seed, setting.compute, source=model)
    )
    each = fmean(durations) if durations else whole
    # the mask, the evaluation at the start, and one at the end of each epoch, which is a small share of its steps
    fixed = max(0.0, whole - sum(durations))
    size = sum(t.numel() * t.element_size() for t in run.model.state_dict().values())
    return RunCost(steps, fixed + steps * each, peak_memory(device), size)


def _shortened(method: GradientMethod, moments: list[float]) -> GradientMethod:
    """Return the method with an epoch of ten steps. `moments` receives the time before each step and after the last."""
    kind: Any = type(method)

    def pairs(self: Any, run: Run) -> Iterator[Any]:
        for pair in islice(kind.pairs(self, run), TIMED_STEPS):
            moments.append(time.perf_counter())
            yield pair
        moments.append(time.perf_counter())

    values = {f.name: getattr(method, f.name) for f in fields(method)}
    short: GradientMethod = type(kind.__name__, (kind,), {"pairs": pairs, "__module__": kind.__module__})(
        **{**values, "epochs": 1}
    )
    return short


def seconds_per_sample(model: nn.Module, split: Split, setting: Setting) -> tuple[float, int]:
    """Return the seconds that the evaluation of one sample takes, and the bytes of its predictions."""
    if "scores" not in setting.task.offers:
        return 0.0, 0
    samples = Samples(split.retain.data, split.retain.index[:TIMED_SAMPLES])
    features = setting.task.has_head(model, split.retain)
    started = time.perf_counter()
    predictions = setting.task.evaluate(model, samples, features=features)
    seconds = time.perf_counter() - started
    values = [getattr(predictions, f.name) for f in fields(predictions)]
    size = sum(v.numel() * v.element_size() for v in values if isinstance(v, Tensor))
    if predictions.labels.device.type == "cuda":
        torch.cuda.synchronize()
    return seconds / len(samples), size // len(samples)
