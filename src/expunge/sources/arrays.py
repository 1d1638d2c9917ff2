"""NumPy archives of the user's own arrays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..data.batch import Inputs
from ..data.tensors import TensorData
from ..errors import ExpungeError, raise_all
from . import formats
from .source import Source, shape_of

RESERVED = ("x_train", "x_test", "y_train", "y_test", "ids", "classes")


def npz(path: Path, options: dict[str, str]) -> Source:
    """`x_train`, or `x_train.NAME` for each input of a model that takes several; `y_train`, `x_test`, `y_test`; optionally
    `ids`, `classes` (names), and any other array (N,) as a group column. Raises `ExpungeError` with every array that is none of
    these."""
    arrays = formats.npz(path)
    x = {part: _inputs(arrays, f"x_{part}") for part in ("train", "test")}
    lacking = [f"x_{p}" for p in x if x[p] is None] + [k for k in ("y_train", "y_test") if k not in arrays]
    if lacking:
        raise ExpungeError(
            f"{path} has {sorted(arrays)}, not {lacking}; name the arrays x_train, y_train, x_test, y_test."
        )
    y = {p: arrays[f"y_{p}"] for p in x}
    raise_all(
        [
            f"{path}: y_{p} is {v.dtype} of shape {v.shape}; give one whole number from 0 a sample."
            for p, v in y.items()
            if v.ndim != 1 or v.dtype.kind not in "iu" or not len(v) or v.min() < 0
        ]
    )
    count = max(int(v.max()) for v in y.values()) + 1
    classes = [str(c) for c in arrays.get("classes", range(count))]
    if len(classes) < count:
        raise ExpungeError(f"{path}: labels run up to {count - 1}, `classes` names {len(classes)}; name all.")
    groups = {k: v for k, v in arrays.items() if k.partition(".")[0] not in RESERVED}
    raise_all(
        [
            f"{path}: {k} has the shape {v.shape} and there are {len(y['train'])} training samples; a group has one value a "
            "training sample: complete it, or leave it out."
            for k, v in groups.items()
            if v.shape != (len(y["train"]),)
        ]
        + [
            f"{path}: {k} is uint8 {v.shape}, images with their channels last; give (N, C, H, W): {k}.transpose(0, 3, 1, 2)."
            for k, v in arrays.items()
            if k.startswith(("x_train", "x_test")) and _channels_last(v)
        ]
    )
    more: dict[str, dict[str, Any]] = {"train": {"ids": arrays.get("ids"), "groups": groups}, "test": {}}
    train, test = (
        TensorData(x[p], torch.from_numpy(y[p].astype(np.int64)), classes=classes, name=path.stem, **more[p])  # type: ignore[arg-type]
        for p in ("train", "test")
    )
    return Source(train, test, classes, shape_of(train), path.stem)


def _inputs(arrays: dict[str, np.ndarray], name: str) -> Inputs | None:
    parts = {
        k.removeprefix(f"{name}."): torch.from_numpy(v) for k, v in arrays.items() if k.startswith(f"{name}.")
    }
    return torch.from_numpy(arrays[name]) if name in arrays else parts or None


def _channels_last(x: np.ndarray) -> bool:
    return x.dtype == np.uint8 and x.ndim == 4 and x.shape[3] in (1, 3) and x.shape[1] not in (1, 3)
