"""How images lie in memory on their way into a network on a CPU: channels last wherever the network takes it.

oneDNN's convolutions are about twice as fast that way (ResNet-20, forward and backward: 1.2 ms a sample for 2.3), and
nothing but rounding changes. A network that takes a `view` across channels cannot be given it; a trial on one sample tells.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from .module_state import evaluating

_TAKES: WeakKeyDictionary[nn.Module, bool] = WeakKeyDictionary()


def laid_out(model: nn.Module, x: Tensor) -> Tensor:
    """`x` (B, C, H, W) in channels-last storage if it is on the CPU and `model` is convolutional and takes it, else as it is."""
    if x.ndim != 4 or x.device.type != "cpu" or not x.is_floating_point() or not isinstance(model, nn.Module):
        return x
    if model not in _TAKES:
        _TAKES[model] = any(isinstance(m, nn.Conv2d) for m in model.modules()) and _tried(model, x[:1])
    return x.contiguous(memory_format=torch.channels_last) if _TAKES[model] else x


@contextmanager
def _without_hooks(model: nn.Module) -> Iterator[None]:
    """Nobody who listens to the layers hears the trial."""
    kept = [(m, m._forward_hooks, m._forward_pre_hooks) for m in model.modules()]
    for m, _, _ in kept:
        m._forward_hooks, m._forward_pre_hooks = OrderedDict(), OrderedDict()
    try:
        yield
    finally:
        for m, after, before in kept:
            m._forward_hooks, m._forward_pre_hooks = after, before


def _tried(model: nn.Module, x: Tensor) -> bool:
    with evaluating(model), _without_hooks(model), torch.no_grad(), torch.random.fork_rng(devices=[]):
        try:
            model(x.contiguous(memory_format=torch.channels_last))
        except RuntimeError:  # a view that needs row-major storage; anything else is told by the true call
            return False
    return True
