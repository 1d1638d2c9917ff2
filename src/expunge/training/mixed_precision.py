"""Mixed precision of a run: the context that its `Compute` asks for, and what the record says of it."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

from ..torch_utils.precision import autocast_type, computes_bfloat16
from .run import Compute, Run


def note_precision(run: Run) -> None:
    """Note what amp "auto" chose, and warn where the device only emulates bfloat16."""
    fast = computes_bfloat16(run.device)
    if run.compute.amp == "auto":
        run.note(f"amp auto: {'bfloat16 autocast' if fast else 'float32'}", warn=False)
    elif run.compute.amp == "bf16" and run.device.type == "cpu" and not fast:
        run.note(
            "this processor has no bfloat16 instructions, so amp bf16 takes several times longer than float32; use amp auto"
        )


def autocast(run: Run) -> AbstractContextManager[Any]:
    """Return the context of mixed precision that the run's `Compute` asks for."""
    return precision(run.compute, run.device)


def precision(compute: Compute, device: torch.device) -> AbstractContextManager[Any]:
    """Return the context of mixed precision for work on `device`."""
    kind = autocast_type(compute.amp, device)
    return nullcontext() if kind is None else torch.autocast(device.type, kind)
