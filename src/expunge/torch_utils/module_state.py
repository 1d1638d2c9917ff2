"""A model's mode, its layout and torch's random state, set inside a block and put back after it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from ..errors import ExpungeError


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """The model in eval mode inside the block; every module's own mode is put back after it."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


def check_seed(seed: int) -> None:
    """Raise `ExpungeError` for a seed that torch or NumPy does not take."""
    if not 0 <= seed < 2**63:
        raise ExpungeError(f"the seed is {seed}; give a whole number from 0 to 2^63 - 1.")


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Torch's global random state seeded inside the block and as it was after it."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


@contextmanager
def arranged(model: nn.Module, channels_last: bool, compiled: bool) -> Iterator[None]:
    """The model in channels-last storage, and compiled, inside the block; contiguous and not compiled after it."""
    if channels_last:
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if compiled:
        model.compile()
    try:
        yield
    finally:
        if channels_last:
            model.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        if compiled:
            model._compiled_call_impl = None


def freeze_batch_norm(model: nn.Module) -> None:
    """Batch norm normalises by its running statistics, and leaves them, until the model's mode is set again."""
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()


def device_of(model: nn.Module) -> torch.device:
    """Where the model's first parameter is."""
    return next(model.parameters()).device
