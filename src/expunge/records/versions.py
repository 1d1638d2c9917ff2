"""The version numbers of modules that torch keeps in a state dict, as its attribute `_metadata`.

A module reads its number when it loads a state, and migrates the state of an older version.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from torch import Tensor


def versions_of(state: object) -> dict[str, Any]:
    """Return {module name: {"version": number}} of a state dict; empty if it has none."""
    versions = getattr(state, "_metadata", None)
    if not isinstance(versions, Mapping):
        return {}
    return {k: dict(v) for k, v in versions.items() if isinstance(k, str) and isinstance(v, Mapping)}


def add_prefix(versions: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """Return the versions with a beginning of names such as "module." before every name."""
    return {f"{prefix}{name}" if name else prefix.removesuffix("."): v for name, v in versions.items()}


def remove_prefix(versions: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """Return the versions without a beginning of names. Modules outside it are left out."""
    return {
        f"{name}."[len(prefix) :].removesuffix("."): v
        for name, v in versions.items()
        if f"{name}.".startswith(prefix)
    }


def with_versions(tensors: Mapping[str, Tensor], versions: Mapping[str, Any]) -> Mapping[str, Tensor]:
    """Return the tensors as a state dict that has these versions, if there are any."""
    if not versions:
        return tensors
    state = OrderedDict(tensors)
    state._metadata = OrderedDict(versions)  # type: ignore[attr-defined]
    return state
