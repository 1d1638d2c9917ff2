"""Rewrite a torch file with objects of allowed classes as one with tensors and plain values only.

This runs in a process of its own: reading the objects may run code of their classes. No other class of the file is read.
"""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Mapping, Sequence
from datetime import date, time, timedelta
from enum import Enum
from pathlib import Path, PurePath
from pickle import UnpicklingError
from typing import Any

import torch

from ..errors import CheckpointError
from .atomic_files import atomic
from .foreign_objects import needed_classes

# what NumPy writes with every scalar and array
NUMPY = (
    "numpy.dtype",
    "numpy.ndarray",
    "numpy._core.multiarray._reconstruct",
    "numpy._core.multiarray.scalar",
)


def convert_file(source: Path, out: Path, allowed: Sequence[str]) -> None:
    """Read `source` with the allowed classes and write plain values to `out`.

    Args:
        source: A torch file.
        out: The new torch file. Objects become dicts of their attributes, NumPy scalars become numbers, arrays tensors.
        allowed: Classes and functions, such as "argparse.Namespace".

    Raises:
        CheckpointError: A name cannot be imported, the file has further classes, or an object has no attributes.
    """
    objects: list[Any] = [(_import(name), name) for name in allowed]
    if missing := sorted(set(needed_classes(source)) - {*allowed, *_numpy_names(allowed)}):
        names = [*allowed, *missing]
        raise CheckpointError(
            f"the file also has {', '.join(missing)}; if you trust it, allow all: expunge convert {source} OUT "
            f"{' '.join(f'--allow {name}' for name in names)}."
        )
    if any(name.startswith("numpy.") for name in allowed):
        import numpy as np

        objects += [(_import(name), name) for name in NUMPY]
        objects += [(_import("numpy._core.multiarray.scalar"), "numpy.core.multiarray.scalar")]
        objects += [v for v in vars(np.dtypes).values() if isinstance(v, type)]
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals(objects):
            warnings.simplefilter("ignore")
            content = torch.load(source, map_location="cpu", weights_only=True)
    # torch and the allowed classes may raise anything
    except Exception as error:
        # torch's own text advises to read the file without weights_only
        detail = "" if isinstance(error, UnpicklingError) else f": {str(error).partition(chr(10))[0][:200]}"
        raise CheckpointError(
            f"{source} cannot be read with these classes ({type(error).__name__}{detail}); read it with the code that wrote it, and save "
            "its state dict."
        ) from error
    plain = _plain(content, "")
    with atomic(out) as part:
        torch.save(plain, part)


def _numpy_names(allowed: Sequence[str]) -> list[str]:
    """The names that one name of NumPy stands for."""
    return [name for name in NUMPY if any(a.startswith("numpy.") for a in allowed)]


def _import(name: str) -> Any:
    module, _, attribute = name.rpartition(".")
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise CheckpointError(
            f"{name} cannot be imported: {error}; write package.module.Class, importable here."
        ) from error


def _plain(value: Any, place: str) -> Any:
    import numpy as np

    if isinstance(value, torch.Tensor | str | bytes | bool | int | float | complex | None) and not isinstance(
        value, np.generic
    ):
        return value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, torch.nn.Module):
        return _plain(value.state_dict(), place)
    if isinstance(value, Enum):
        return _plain(value.value, place)
    if isinstance(value, PurePath | date | time | timedelta):
        return str(value)
    if isinstance(value, np.ndarray):
        return torch.from_numpy(value)
    if isinstance(value, Mapping):
        return {k: _plain(v, f"{place}.{k}") for k, v in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_plain(v, place) for v in value) if type(value) in (list, tuple) else list(value)
    if isinstance(value, torch.Size | torch.dtype | torch.device | set | frozenset):
        return value
    if hasattr(value, "__dict__"):
        return {k: _plain(v, f"{place}.{k}") for k, v in vars(value).items()}
    raise CheckpointError(
        f"the entry {place[1:]} is a {type(value).__name__} without attributes; remove it and save again."
    )


if __name__ == "__main__":
    try:
        convert_file(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
    except CheckpointError as problem:
        sys.exit(str(problem))
