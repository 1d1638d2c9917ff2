"""Put the tensors of an output where its input had them, under the same names."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from torch import Tensor

from .checkpoint_contents import Keys


def has_prefix(state: Mapping[str, Tensor], prefix: str, names: Collection[str]) -> bool:
    """Whether all names of a state are those of the input with its prefix, as those of a model in DataParallel."""
    return bool(prefix) and state.keys() == {prefix + name for name in names}


def insert(rest: Any, keys: Keys, tensors: Mapping[str, Tensor]) -> Any:
    """Put the state dict where the input had it. A list holds nothing but it."""
    if not keys:
        return tensors
    if rest is None:
        return [insert(None, keys[1:], tensors)]
    return {**rest, keys[0]: insert(rest.get(keys[0]), keys[1:], tensors)}
