"""Measure what a run costs: seconds of work and peak memory."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from ..torch_utils.peak_memory import peak_memory, reset_peak_memory
from .run import Run


@contextmanager
def measured(run: Run) -> Iterator[None]:
    """Add the seconds of the block to `run.seconds` (RTE), and its peak memory to `run.peak_memory`.

    Peak memory is in bytes: allocated on the GPU, or of this process on Linux.
    """
    reset_peak_memory(run.device)
    run._started = time.perf_counter()
    try:
        yield
    finally:
        if run.device.type == "cuda":
            torch.cuda.synchronize(run.device)
        run.seconds, run._started = run.elapsed, None
        now = peak_memory(run.device)
        run.peak_memory = now if run.peak_memory is None or now is None else max(now, run.peak_memory)
