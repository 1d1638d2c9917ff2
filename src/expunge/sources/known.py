"""The sets that ship or are common: digits, Fashion-MNIST, CIFAR-10."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..data.batch import CropFlip
from ..data.tensors import TensorData
from ..errors import ExpungeError, raise_all
from . import formats
from .source import Source

FASHION = (
    "T-shirt/top",
    "trouser",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "ankle boot",
)
CIFAR = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def digits(_: Path, options: dict[str, str]) -> Source:
    from sklearn.datasets import load_digits

    found = load_digits()
    x = torch.from_numpy(found.images / 16 * 255).round().byte()[:, None]
    y = torch.from_numpy(found.target)
    # a fixed stratified fifth for testing
    test = torch.zeros(len(y), dtype=torch.bool)
    draw = torch.Generator().manual_seed(0)
    for k in range(10):
        of = (y == k).nonzero()[:, 0]
        test[of[torch.randperm(len(of), generator=draw)[: round(0.2 * len(of))]]] = True
    names = [str(k) for k in range(10)]
    return _source(x[~test], y[~test], x[test], y[test], names, "digits")


def fashion(folder: Path, options: dict[str, str]) -> Source:
    parts: dict[str, np.ndarray] = {}
    problems: list[str] = []
    for name, rank in (("images-idx3-ubyte", 3), ("labels-idx1-ubyte", 1)):
        for part in ("train", "t10k"):
            try:
                parts[f"{part}-{rank}"] = formats.idx(folder, f"{part}-{name}", rank)
            except ExpungeError as error:
                problems += error.problems
    raise_all(problems)
    for part in ("train", "t10k"):
        images, labels = parts[f"{part}-3"], parts[f"{part}-1"]
        if len(images) != len(labels):
            problems.append(
                f"{folder}: {part} has {len(images)} images and {len(labels)} labels; they must be as many."
            )
        if len(labels) and labels.max() > 9:
            problems.append(f"{folder}: {part} has the label {labels.max()}; Fashion-MNIST has 0 to 9.")
    raise_all(problems)
    x, y, x_test, y_test = (torch.from_numpy(parts[k]) for k in ("train-3", "train-1", "t10k-3", "t10k-1"))
    return _source(x[:, None], y, x_test[:, None], y_test, FASHION, "Fashion-MNIST")


def cifar(folder: Path, options: dict[str, str]) -> Source:
    batches, name = [f"data_batch_{k}" for k in range(1, 6)], "CIFAR-10"
    if (folder / "data_batch_1.bin").is_file():
        train = [formats.cifar_binary(folder / f"{b}.bin") for b in batches]
        x_test, y_test = formats.cifar_binary(folder / "test_batch.bin")
    elif (folder / "data_batch_1").is_file():
        train = [formats.cifar_pickle(folder / b) for b in batches]
        x_test, y_test = formats.cifar_pickle(folder / "test_batch")
    elif (folder / "train.parquet").is_file():
        train = [formats.parquet(folder / "train.parquet")]
        x_test, y_test = formats.parquet(folder / "test.parquet")
        name = "CIFAR-10 (JPEG)"
    else:
        raise ExpungeError(
            f"{folder} has neither train.parquet and test.parquet (columns img, label) nor data_batch_1.bin "
            "(the binary version) nor data_batch_1 (the python version); name a folder with one of them."
        )
    x, y = torch.cat([t[0] for t in train]), torch.cat([t[1] for t in train])
    return _source(x, y, x_test, y_test, CIFAR, name, CropFlip(4))


def _source(
    x: Tensor,
    y: Tensor,
    x_test: Tensor,
    y_test: Tensor,
    classes: Sequence[str],
    name: str,
    augment: Any = None,
) -> Source:
    train = TensorData(x, y, classes=list(classes), augment=augment, name=name)
    return Source(
        train,
        TensorData(x_test, y_test, classes=list(classes), name=name),
        list(classes),
        tuple(x.shape[1:]),
        name,
    )
