"""NumPy archives with the user's own arrays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..data.batch import Inputs
from ..data.tensors import TensorData
from ..errors import ExpungeError, raise_all
from . import formats
from .source import Source, input_shape

# names of arrays (before a dot) that are no group column
RESERVED = ("x_train", "x_test", "y_train", "y_test", "ids", "classes")


def read_npz(path: Path, options: dict[str, str]) -> Source:
    """Read training and test data from a NumPy archive.

    The archive has these arrays:

    - `x_train` (N, ...) and `x_test` (M, ...), or `x_train.NAME` and `x_test.NAME` for each of several named inputs;
    - `y_train` (N,) and `y_test` (M,), whole numbers from 0;
    - optional: `ids` (N,) of the training samples, `classes` (K,) with their names;
    - any other array (N,) is a group column of the training samples.

    Raises:
        ExpungeError: Arrays are missing or have wrong shapes or types. Lists every one.
    """
    arrays = formats.read_arrays(path)
    x = {part: _inputs(arrays, f"x_{part}") for part in ("train", "test")}
    missing = [f"x_{p}" for p in x if x[p] is None] + [k for k in ("y_train", "y_test") if k not in arrays]
    if missing:
        raise ExpungeError(
            f"{path} has the arrays {sorted(arrays)} and lacks {missing}; name the arrays x_train, y_train, x_test, y_test."
        )
    y = {part: arrays[f"y_{part}"] for part in x}
    raise_all(
        [
            f"{path}: y_{part} is {v.dtype} of shape {v.shape}; give one whole number from 0 per sample, shape (N,)."
            for part, v in y.items()
            if v.ndim != 1 or v.dtype.kind not in "iu" or not len(v) or v.min() < 0
        ]
    )
    count = max(int(v.max()) for v in y.values()) + 1
    classes = [str(c) for c in arrays.get("classes", range(count))]
    if len(classes) < count:
        raise ExpungeError(
            f"{path}: labels go up to {count - 1}, but `classes` has {len(classes)} names; give a name for each class."
        )
    groups = {k: v for k, v in arrays.items() if k.partition(".")[0] not in RESERVED}
    raise_all(_shape_problems(path, arrays, groups, len(y["train"])))
    of_part: dict[str, dict[str, Any]] = {"train": {"ids": arrays.get("ids"), "groups": groups}, "test": {}}
    train, test = (
        TensorData(
            x[part],  # type: ignore[arg-type]
            torch.from_numpy(y[part].astype(np.int64)),
            classes=classes,
            name=path.stem,
            **of_part[part],
        )
        for part in ("train", "test")
    )
    return Source(train, test, classes, input_shape(train), path.stem)


def _shape_problems(
    path: Path, arrays: dict[str, np.ndarray], groups: dict[str, np.ndarray], count: int
) -> list[str]:
    """One sentence per group column or image array of a wrong shape."""
    problems = [
        f"{path}: {name} has the shape {v.shape} and there are {count} training samples; give a group column one value per "
        "training sample, or remove it."
        for name, v in groups.items()
        if v.shape != (count,)
    ]
    problems += [
        f"{path}: {name} is uint8 of shape {v.shape}, images with channels last; give (N, C, H, W): "
        f"{name}.transpose(0, 3, 1, 2)."
        for name, v in arrays.items()
        if name.startswith(("x_train", "x_test")) and _is_channels_last(v)
    ]
    return problems


def _inputs(arrays: dict[str, np.ndarray], name: str) -> Inputs | None:
    """The array `name`, else a dict of the arrays `name.NAME`. None if there is neither."""
    named = {
        k.removeprefix(f"{name}."): torch.from_numpy(v) for k, v in arrays.items() if k.startswith(f"{name}.")
    }
    return torch.from_numpy(arrays[name]) if name in arrays else named or None


def _is_channels_last(x: np.ndarray) -> bool:
    return x.dtype == np.uint8 and x.ndim == 4 and x.shape[3] in (1, 3) and x.shape[1] not in (1, 3)
