"""Models to start from, by name, and the user's own by `package.module:factory`."""

from __future__ import annotations

import importlib
import inspect
import os
import sys
from collections.abc import Callable
from typing import Any

from torch import nn

from ..errors import ModelError
from .cnn import CNN, MLP
from .resnet import resnet18, resnet20
from .vgg import VGG

MODELS: dict[str, Callable[..., nn.Module]] = {
    "cnn": CNN,
    "mlp": MLP,
    "resnet20": resnet20,
    "resnet18": resnet18,
    "vgg16_bn": VGG,
}


def build(name: str, *, num_classes: int, shape: tuple[int, ...] = (3, 32, 32), **options: Any) -> nn.Module:
    """A model with fresh weights: a built-in name, or `package.module:factory`, called with whichever of `num_classes`,
    `shape` (C, H, W) and `in_channels` it takes. Raises `ModelError` for unknown names and for what is no `nn.Module`."""
    given = {"num_classes": num_classes, "shape": tuple(shape), "in_channels": shape[0] if shape else 1}
    if ":" in name:
        factory = imported(name, ModelError)
        takes = inspect.signature(factory).parameters
        anything = any(p.kind is p.VAR_KEYWORD for p in takes.values())
        made = factory(**{k: v for k, v in given.items() if k in takes or anything}, **options)
        if not isinstance(made, nn.Module):
            raise ModelError(f"{name} returned {type(made).__name__}; a model factory returns an nn.Module.")
        return made
    if name not in MODELS:
        raise ModelError(
            f"there is no model '{name}'; known: {', '.join(MODELS)}, or package.module:factory."
        )
    return MODELS[name](num_classes=num_classes, shape=tuple(shape), **options)


def imported(spec: str, error: type[Exception]) -> Callable[..., Any]:
    """The function that `package.module:function` names; modules of the current folder are found too."""
    module, _, name = spec.partition(":")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as caught:
        raise error(
            f"{spec} cannot be imported: {caught}; write package.module:function, importable from here."
        ) from caught
    if not callable(found):
        raise error(f"{spec} is a {type(found).__name__}; name a function.")
    return found
