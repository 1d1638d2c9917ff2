"""Read, copy and set the state of a model: its mode, memory format and parameters, and torch's random state."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from numbers import Integral
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import raise_all
from .finite import all_finite
from .random_state import drawing_from, seed_torch

# part of torch's message where batch norm gets a batch of one sample
SINGLE_SAMPLE = "more than 1 value per channel"


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put the model in eval mode inside the block, and restore the mode of every module afterwards.

    Args:
        model: The model.

    Example:
        >>> with evaluating(model), torch.no_grad():  # doctest: +SKIP
        ...     logits = model(x)
    """
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


def check_seed(seed: int) -> None:
    """Check that torch and NumPy accept a seed.

    Raises:
        ExpungeError: The seed is outside 0 to 2^63 - 1.
    """
    raise_all(seed_problems(seed))


def seed_problems(seed: Any) -> list[str]:
    """Return one sentence if torch or NumPy do not accept a seed."""
    whole = isinstance(seed, Integral) and not isinstance(seed, bool)
    shown = seed if isinstance(seed, int) else repr(seed)
    return (
        []
        if whole and 0 <= seed < 2**63
        else [f"the seed is {shown}; give a whole number from 0 to 2^63 - 1."]
    )


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Seed the global random state of torch, NumPy and `random` inside the block, and restore it afterwards.

    Args:
        seed: The seed.
        device: The device whose random state is seeded beside that of the CPU.
    """
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        seed_torch(seed)
        with drawing_from(seed):
            yield


@contextmanager
def stored_and_compiled(model: nn.Module, channels_last: bool, compiled: bool) -> Iterator[None]:
    """Store the model channels-last and compile it inside the block, as asked. Afterwards it is contiguous and not compiled.

    Args:
        model: The model.
        channels_last: Whether to store it channels-last.
        compiled: Whether to compile its forward pass.
    """
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
    """Make batch norm use its running statistics without updating them, until the mode of the model is set again."""
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()


def device_of(model: nn.Module) -> torch.device:
    """Return the device of the model's first parameter."""
    return next(model.parameters()).device


def same_parameters(one: nn.Module, other: nn.Module) -> bool:
    """Return whether two models have the same parameters: names, shapes, types and every bit. Devices may differ."""
    return _same_tensors(one.named_parameters(), other.named_parameters())


def same_buffers(one: nn.Module, other: nn.Module) -> bool:
    """Return whether two models have the same buffers. The comparison is that of `same_parameters`."""
    return _same_tensors(one.named_buffers(), other.named_buffers())


def equal_names(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> list[str]:
    """Return the names of tensors that are the same in both: shape, type and every bit. Devices may differ."""
    return [n for n, tensor in one.items() if n in other and _same_bits(_local(tensor), _local(other[n]))]


def varies(tensor: Tensor) -> bool:
    """Whether a tensor is no constant. A single number is one only if it is 0 or 1."""
    values = _local(tensor)
    if values.numel() <= 1:
        return bool(((values != 0) & (values != 1)).any())
    return bool((values != values.flatten()[0]).any())


def _same_tensors(one: Iterable[tuple[str, Tensor]], other: Iterable[tuple[str, Tensor]]) -> bool:
    mine, others = dict(one), dict(other)
    if mine.keys() != others.keys():
        return False
    return all(_same_bits(_local(tensor), _local(others[name])) for name, tensor in mine.items())


def _local(tensor: Tensor) -> Tensor:
    # a sharded tensor is compared by the part of this process
    return (tensor.to_local() if hasattr(tensor, "to_local") else tensor).detach()


def _same_bits(one: Tensor, other: Tensor) -> bool:
    return one.dtype == other.dtype and one.shape == other.shape and torch.equal(one, other.to(one.device))


def is_finite(model: nn.Module) -> bool:
    """Whether all floating-point parameters and buffers are finite. Takes one transfer from the device.

    Buffers may contain -inf, because attention masks do. Statistics gathered in training never are -inf.
    """
    flags = [all_finite(p) for p in model.parameters() if p.is_floating_point()]
    flags += [all_finite(b, allowed=-math.inf) for b in model.buffers() if b.is_floating_point()]
    return not flags or bool(torch.stack(flags).all())


def snapshot(model: nn.Module) -> dict[str, Tensor]:
    """Return a copy of the model's state dict."""
    return {k: v.detach().clone() for k, v in model.state_dict().items()}
