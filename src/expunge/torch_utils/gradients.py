"""Make sure that gradients exist where a function needs them: also under `no_grad`, and dense ones of every embedding."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import ParamSpec, TypeVar

import torch
from torch import nn

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def with_gradients(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Return a function that also works where the caller has set `torch.no_grad` or `torch.inference_mode`.

    Example:
        >>> with torch.no_grad():
        ...     run = execute(model, split, "salun", task)  # execute is decorated
    """

    @wraps(function)
    def inner(*arguments: Arguments.args, **options: Arguments.kwargs) -> Result:
        with torch.inference_mode(False), torch.enable_grad():
            return function(*arguments, **options)

    return inner


@contextmanager
def dense_gradients(model: nn.Module) -> Iterator[None]:
    """Let embeddings with `sparse=True` give dense gradients inside the block. The values are the same.

    Momentum, weight decay, Adam and clipping have no form for sparse gradients.
    """
    sparse = [m for m in model.modules() if isinstance(m, nn.Embedding | nn.EmbeddingBag) and m.sparse]
    for module in sparse:
        module.sparse = False
    try:
        yield
    finally:
        for module in sparse:
            module.sparse = True
