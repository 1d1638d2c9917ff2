"""Standard data sets: digits (with scikit-learn), and the files of Fashion-MNIST and CIFAR-10."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..data.tensors import TensorData
from ..data.transforms import CropFlip
from ..errors import ExpungeError, raise_all
from . import formats
from .source import TEST_SHARE, Source

FASHION_CLASSES = (
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
CIFAR10_CLASSES = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)


def read_digits(_: Path, options: dict[str, str]) -> Source:
    """Read scikit-learn's 1,797 digits (1, 8, 8). A fixed fifth of each class is the test set."""
    images, target = _digits()
    # The pixels go from 0 to 16.
    x = torch.from_numpy(images / 16 * 255).round().byte()[:, None]
    y = torch.from_numpy(target.copy())
    # Not `held_out`, whose draw is another one: checkpoints and results depend on this one.
    in_test = torch.zeros(len(y), dtype=torch.bool)
    generator = torch.Generator().manual_seed(0)
    for k in range(10):
        of_class = (y == k).nonzero()[:, 0]
        order = torch.randperm(len(of_class), generator=generator)
        in_test[of_class[order[: round(TEST_SHARE * len(of_class))]]] = True
    names = [str(k) for k in range(10)]
    return _source(x[~in_test], y[~in_test], x[in_test], y[in_test], names, "digits")


@cache
def _digits() -> tuple[np.ndarray, np.ndarray]:
    """Return the images and labels of scikit-learn's file. Reading its text takes longer than all else here."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    return digits.images, digits.target


def read_fashion_mnist(folder: Path, options: dict[str, str]) -> Source:
    """Read the four IDX files of Fashion-MNIST, plain or gzipped.

    Raises:
        ExpungeError: Files are missing or broken. Lists every one.
    """
    arrays: dict[str, np.ndarray] = {}
    problems: list[str] = []
    for name, rank in (("images-idx3-ubyte", 3), ("labels-idx1-ubyte", 1)):
        for part in ("train", "t10k"):
            try:
                arrays[f"{part}-{rank}"] = formats.read_idx(folder, f"{part}-{name}", rank)
            except ExpungeError as error:
                problems += error.problems
    raise_all(problems)
    for part in ("train", "t10k"):
        images, labels = arrays[f"{part}-3"], arrays[f"{part}-1"]
        if len(images) != len(labels):
            problems.append(
                f"{folder}: {part} has {len(images)} images and {len(labels)} labels; give one label per image."
            )
        if len(labels) and labels.max() > 9:
            problems.append(
                f"{folder}: {part} has the label {labels.max()}; labels of Fashion-MNIST go from 0 to 9."
            )
    raise_all(problems)
    x, y, x_test, y_test = (torch.from_numpy(arrays[k]) for k in ("train-3", "train-1", "t10k-3", "t10k-1"))
    return _source(x[:, None], y, x_test[:, None], y_test, FASHION_CLASSES, "Fashion-MNIST")


def read_cifar10(folder: Path, options: dict[str, str]) -> Source:
    """Read CIFAR-10 in the binary version, the python version, or as two parquet files.

    Training images are shifted by up to 4 pixels and flipped, unless the option `augment` says otherwise.

    Raises:
        ExpungeError: The folder has none of these files, or a file is broken.
    """
    batches, name = [f"data_batch_{k}" for k in range(1, 6)], "CIFAR-10"
    if (folder / "data_batch_1.bin").is_file():
        train = [formats.read_cifar_binary(folder / f"{b}.bin") for b in batches]
        x_test, y_test = formats.read_cifar_binary(folder / "test_batch.bin")
    elif (folder / "data_batch_1").is_file():
        train = [formats.read_cifar_pickle(folder / b) for b in batches]
        x_test, y_test = formats.read_cifar_pickle(folder / "test_batch")
    elif (folder / "train.parquet").is_file():
        train = [formats.read_image_parquet(folder / "train.parquet", highest_label=9)]
        x_test, y_test = formats.read_image_parquet(folder / "test.parquet", highest_label=9)
        name = "CIFAR-10 (JPEG)"
    else:
        raise ExpungeError(
            f"{folder} has no file of CIFAR-10; give a folder with train.parquet and test.parquet (columns img, label), with "
            "data_batch_1.bin ... (binary version), or with data_batch_1 ... (python version)."
        )
    x, y = torch.cat([images for images, _ in train]), torch.cat([labels for _, labels in train])
    return _source(x, y, x_test, y_test, CIFAR10_CLASSES, name, CropFlip(4))


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
    test = TensorData(x_test, y_test, classes=list(classes), name=name)
    return Source(train, test, list(classes), tuple(x.shape[1:]), name)
