"""Check the device of `expunge.toml`."""

from __future__ import annotations

import torch

from ..errors import ExpungeError


def check_device(name: str) -> None:
    """Raise `ExpungeError` for a device that this machine does not have."""
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        raise ExpungeError(
            f"the device '{name}' is not available here; use cpu, cuda, cuda:1 or mps."
        ) from error
