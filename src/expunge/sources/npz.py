"""NumPy archives with the user's own arrays."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..data.batch import Inputs
from ..data.class_names import sparse_labels
from ..data.id_forms import encodable
from ..data.label_order import in_order
from ..data.tensors import TensorData
from ..errors import ExpungeError, raise_all
from .archives import read_arrays
from .source import Source, input_shape

# names of arrays (before a dot) that are no group column
RESERVED = ("x_train", "x_test", "y_train", "y_test", "ids", "classes")


def read_npz(path: Path, options: dict[str, str], known: Sequence[str] = ()) -> Source:
    """Read training and test data from a NumPy archive.

    The archive has these arrays:

    - `x_train` (N, ...) and `x_test` (M, ...), or `x_train.NAME` and `x_test.NAME` for each of several named inputs;
    - `y_train` (N,) and `y_test` (M,), whole numbers from 0, or class names;
    - optional: `ids` (N,) of the training samples, `classes` (K,) with their names;
    - any other array (N,) is a group column of the training samples.

    Args:
        path: The archive.
        options: The options of the data spec.
        known: Classes that come first, in this order, also without samples.

    Raises:
        ExpungeError: Arrays are missing or have wrong shapes or types. Lists every one.
    """
    arrays = read_arrays(path)
    parts = ("train", "test")
    missing = [f"x_{p}" for p in parts if not _names(arrays, f"x_{p}")]
    missing += [k for k in ("y_train", "y_test") if k not in arrays]
    if missing:
        raise ExpungeError(
            f"{path} has the arrays {sorted(arrays)} and lacks {missing}; name the arrays x_train, y_train, x_test, y_test."
        )
    groups = {k: v for k, v in arrays.items() if k.partition(".")[0] not in RESERVED}
    problems = [f"{path}: {p}" for p in _label_problems(arrays, known) + _shape_problems(arrays, groups)]
    raise_all(problems)
    y, classes = _numbered(arrays, known)
    of_part: dict[str, dict[str, Any]] = {"train": {"ids": arrays.get("ids"), "groups": groups}, "test": {}}
    train, test = (
        TensorData(
            _inputs(arrays, f"x_{part}"),
            torch.from_numpy(y[part]),
            classes=classes,
            name=encodable(path.stem),
            **of_part[part],
        )
        for part in parts
    )
    return Source(train, test, classes, input_shape(train), encodable(path.stem))


def _label_problems(arrays: dict[str, np.ndarray], known: Sequence[str]) -> list[str]:
    """One sentence per array of labels or class names that cannot be used."""
    labels = {name: arrays[name] for name in ("y_train", "y_test")}
    problems = [
        f"{name} is {v.dtype} of shape {v.shape}; give one whole number from 0, or one class name, per sample, shape (N,)."
        for name, v in labels.items()
        if v.ndim != 1 or v.dtype.kind not in "iuU" or not len(v) or (v.dtype.kind != "U" and v.min() < 0)
    ]
    kinds = {v.dtype.kind == "U" for v in labels.values()}
    if not problems and len(kinds) > 1:
        problems.append("one of y_train and y_test has numbers and the other has names; give both alike.")
    if problems:
        return problems
    if True in kinds:
        if blank := [name for name, v in labels.items() if not np.strings.str_len(np.strings.strip(v)).all()]:
            problems.append(f"{' and '.join(blank)} has empty names; give each sample a class.")
        if unknown := sorted(set(labels["y_test"].tolist()) - set(labels["y_train"].tolist()) - set(known)):
            problems.append(f"y_test has the labels {unknown[:5]}, which y_train does not have.")
    names = arrays.get("classes")
    if names is None:
        return problems + ([] if True in kinds else sparse_labels(np.unique(labels["y_train"])))
    if names.ndim != 1 or names.dtype.kind not in "iuU":
        return [
            *problems,
            f"`classes` is {names.dtype} of shape {names.shape}; give one name per class, shape (K,).",
        ]
    texts = [str(c) for c in names]
    if twice := sorted({c for c in texts if texts.count(c) > 1}):
        problems.append(
            f"`classes` has the names {twice[:5]} more than once; give each class a name of its own."
        )
    if True in kinds:
        if unnamed := sorted(set(labels["y_train"].tolist()) - set(texts)):
            problems.append(f"`classes` lacks the labels {unnamed[:5]}; give all names, in their order.")
    elif (highest := max(int(v.max()) for v in labels.values())) >= len(texts):
        problems.append(
            f"labels go up to {highest}, but `classes` has {len(texts)} names; give a name for each class."
        )
    return problems


def _numbered(arrays: dict[str, np.ndarray], known: Sequence[str]) -> tuple[dict[str, np.ndarray], list[str]]:
    """The class numbers (N,) of training and test samples, and the class names."""
    labels = {part: arrays[f"y_{part}"] for part in ("train", "test")}
    if labels["train"].dtype.kind == "U":
        names = [str(c) for c in arrays.get("classes", in_order(labels["train"].tolist()))]
        classes = [*known, *(name for name in names if name not in known)]
        numbers = {name: k for k, name in enumerate(classes)}
        return {part: np.array([numbers[n] for n in v.tolist()]) for part, v in labels.items()}, classes
    count = max(int(v.max()) for v in labels.values()) + 1
    return {part: v.astype(np.int64) for part, v in labels.items()}, [
        str(c) for c in arrays.get("classes", range(count))
    ]


def _shape_problems(arrays: dict[str, np.ndarray], groups: dict[str, np.ndarray]) -> list[str]:
    """One sentence per array of a wrong shape or type."""
    y = arrays["y_train"]
    count = len(y) if y.ndim else 0
    problems = [
        f"{name} has the shape {v.shape} and there are {count} training samples; give a group column one value per training "
        "sample, or remove it."
        for name, v in groups.items()
        if v.shape != (count,)
    ]
    if (ids := arrays.get("ids")) is not None and (ids.shape != (count,) or ids.dtype.kind not in "iuU"):
        problems.append(
            f"ids is {ids.dtype} of shape {ids.shape} and there are {count} training samples; give one number or text per sample."
        )
    for name, v in arrays.items():
        if not name.startswith(("x_train", "x_test")):
            continue
        if v.ndim == 0 or not _torch_has(v.dtype):
            problems.append(f"{name} is {v.dtype} of shape {v.shape}; give numbers of shape (N, ...).")
        elif _is_channels_last(v):
            problems.append(
                f"{name} is uint8 of shape {v.shape}, images with channels last; give (N, C, H, W): {name}.transpose(0, 3, 1, 2)."
            )
    return problems


def _torch_has(dtype: np.dtype) -> bool:
    try:
        torch.from_numpy(np.empty(0, dtype))
    except TypeError:
        return False
    return True


def _names(arrays: dict[str, np.ndarray], name: str) -> list[str]:
    """The array `name`, else the arrays `name.NAME`. Empty if there is neither."""
    return [name] if name in arrays else [k for k in arrays if k.startswith(f"{name}.")]


def _inputs(arrays: dict[str, np.ndarray], name: str) -> Inputs:
    names = _names(arrays, name)
    tensors = {k.removeprefix(f"{name}."): torch.from_numpy(arrays[k]) for k in names}
    return tensors[name] if names == [name] else tensors


def _is_channels_last(x: np.ndarray) -> bool:
    return x.dtype == np.uint8 and x.ndim == 4 and x.shape[3] in (1, 3) and x.shape[1] not in (1, 3)
