"""Models that other libraries have prepared for training: the model inside of the wrappers of torch and Accelerate."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from torch import nn
from torch.nn.parallel import DataParallel, DistributedDataParallel
from torch.optim import Optimizer

from ..errors import ModelError

# wrappers whose processes hold parts of the parameters, by their names: importing the classes takes time
SHARDING = ("FullyShardedDataParallel", "DeepSpeedEngine")
# attributes of an instance by which Accelerate replaces the forward pass of its class for mixed precision
REPLACED = ("forward", "_original_forward")


def is_distributed(model: nn.Module) -> bool:
    """Whether the model is wrapped for data-parallel training, where every parameter needs a gradient in each step."""
    return isinstance(model, DistributedDataParallel)


def _holds_parts(model: nn.Module) -> bool:
    """Whether processes hold parts of the parameters (FSDP, DeepSpeed)."""
    wrapped = any(kind.__name__ in SHARDING for module in model.modules() for kind in type(module).__mro__)
    return wrapped or any(hasattr(p, "to_local") for p in model.parameters())


def unwrapped(model: nn.Module) -> nn.Module:
    """Return the model inside of DataParallel and DistributedDataParallel. Any other model is returned unchanged."""
    while isinstance(model, DistributedDataParallel | DataParallel):
        model = model.module
    return model


def plain_model(model: Any) -> Any:
    """Return the model inside of what `accelerator.prepare` or DistributedDataParallel made of it. It shares its parameters.

    The mixed precision of Accelerate is left out: `Compute(amp=...)` chooses it. Anything but a module is returned unchanged.

    Raises:
        ModelError: The parameters are sharded, so that no process has the whole model.
    """
    if not isinstance(model, nn.Module):
        return model
    if _holds_parts(model):
        raise ModelError(
            "the parameters of the model are sharded (FSDP or DeepSpeed), and a run works on a whole copy; gather them with "
            "accelerator.get_state_dict(model), load them into a model that is not prepared, and give that one. In your own loop "
            "`masked` works on a model sharded by fully_shard, with a mask from expunge.masks.sharded.distributed_mask."
        )
    model = unwrapped(model)
    if "_original_forward" not in vars(model):
        return model
    # the user's object keeps its forward pass
    plain = copy.copy(model)
    for name in REPLACED:
        vars(plain).pop(name, None)
    return plain


def plain_optimizer(optimizer: Any) -> Any:
    """Return the optimizer of torch inside of the wrappers of Accelerate and Lightning, whose steps call it."""
    while isinstance(inner := getattr(optimizer, "optimizer", None), Optimizer):
        optimizer = inner
    return optimizer


def of_plain_model(model: nn.Module, named: Any) -> Any:
    """Return a mask {parameter name: bool tensor} with the names of `plain_model(model)`, if it has those of the wrapped model."""
    if not isinstance(named, Mapping) or not isinstance(model, DistributedDataParallel | DataParallel):
        return named
    before = "module."
    inner = {name for name, _ in plain_model(model).named_parameters()}
    if not all(name.startswith(before) and name.removeprefix(before) in inner for name in named):
        return named
    return {name.removeprefix(before): value for name, value in named.items()}
