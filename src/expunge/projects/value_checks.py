"""Check single entries of `expunge.toml`: the method and the device."""

from __future__ import annotations

import torch

from ..errors import ExpungeError
from ..tasks.classification import Classification
from ..training.execute import check_run
from ..training.registry import find


def check_method(name: str) -> None:
    """Raise `ExpungeError` if a method does not exist, or cannot answer requests: its file would still have what the model knew."""
    chosen = find(name)
    if reason := chosen.python_only or chosen.hides_only:
        raise ExpungeError(reason)
    check_run(chosen(), None, Classification(2))


def check_device(name: str) -> None:
    """Raise `ExpungeError` for a device that this machine does not have."""
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        raise ExpungeError(
            f"the device '{name}' is not available here; use cpu, cuda, cuda:1 or mps."
        ) from error
