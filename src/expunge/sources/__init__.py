"""Data by name: the sets that ship or are common, folders of images, NumPy files, and the user's own functions."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Subset

from ..data import CropFlip, Data, Inputs, StreamData, TensorData, as_data
from ..errors import ExpungeError, raise_all
from ..models import called
from . import formats
from .folders import read_folder

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

FOLDERS = {"fashion-mnist": "fashion-mnist", "cifar10": "cifar10-jpeg"}  # as EXPUNGE_DATA holds them


@dataclass(frozen=True)
class Source:
    """Training and test data, the class names, the shape of one input (C, H, W) and a name for records."""

    train: Data
    test: Data
    classes: list[str]
    shape: tuple[int, ...]
    name: str


def place_of(data: str) -> str:
    """`data` with the folder that EXPUNGE_DATA names, for the two data sets that need one and came without."""
    kind, _, rest = data.partition("?")
    if kind not in FOLDERS:
        return data
    root = os.environ.get("EXPUNGE_DATA")
    if not root:
        raise ExpungeError(
            f"where is {kind}? Write --data {kind}:FOLDER, or set EXPUNGE_DATA to a folder that holds {FOLDERS[kind]}."
        )
    return f"{kind}:{Path(root) / FOLDERS[kind]}" + (f"?{rest}" if rest else "")


def load(spec: str) -> Source:
    """Data by its spec: `digits`, `fashion-mnist:DIR`, `cifar10:DIR`, `folder:DIR`, `npz:FILE` or `package.module:factory`.

    Options follow a `?` and are joined by `&`: `limit=N` takes a stratified part of the training set and `test_limit=N` of
    the test set (drawn by `seed=0`), `augment=0` trains on the images as they are, `size=64` resizes the images of a
    folder. Raises `ExpungeError` saying what is missing or broken.
    """
    place, _, query = spec.partition("?")
    options = dict(parse_qsl(query, keep_blank_values=True))
    kind, _, where = place.partition(":")
    readers = {
        "digits": _digits,
        "fashion-mnist": _fashion,
        "cifar10": _cifar,
        "folder": _folder,
        "npz": _npz,
    }
    _check_options(kind, options)
    if kind in readers:
        if kind != "digits" and not where:
            raise ExpungeError(
                f"'{spec}' names no place; write {kind}:{'FILE' if kind == 'npz' else 'FOLDER'}."
            )
        source = readers[kind](Path(where).expanduser(), options)
    elif ":" in place:
        source = _from_factory(place)
    else:
        raise ExpungeError(
            f"there is no data '{spec}'; known: {', '.join(readers)} (with :PLACE), or package.module:factory."
        )
    seed = int(options.get("seed", 0))
    train, test, name = source.train, source.test, source.name
    if "limit" in options:
        train = _part(train, "training", int(options["limit"]), seed)
        name += f", {len(train)} training samples"
    if "test_limit" in options:
        test = _part(test, "test", int(options["test_limit"]), seed)
        name += f", {len(test)} test samples"
    if options.get("augment") == "0" and train.augment is not None:
        train = _like(train, train.samples().index, augment=None)
        name += ", not augmented"
    return replace(source, train=train, test=test, name=name)


def _check_options(kind: str, options: dict[str, str]) -> None:
    known = {"limit": 1, "test_limit": 1, "seed": 0, "augment": 0} | ({"size": 1} if kind == "folder" else {})
    problems = [
        f"'{k}' is no option of {kind}; known: {', '.join(sorted(known))}." for k in options if k not in known
    ]
    problems += [
        f"{k}={v} is no whole number of {known[k]} or more."
        for k, v in options.items()
        if k in known and not (v.isascii() and v.isdigit() and int(v) >= known[k])
    ]
    raise_all(problems, ExpungeError)


def _digits(_: Path, options: dict[str, str]) -> Source:
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
    return _images(x[~test], y[~test], x[test], y[test], names, "digits")


def _images(
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


def _fashion(folder: Path, options: dict[str, str]) -> Source:
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
    return _images(x[:, None], y, x_test[:, None], y_test, FASHION, "Fashion-MNIST")


def _cifar(folder: Path, options: dict[str, str]) -> Source:
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
    return _images(x, y, x_test, y_test, CIFAR, name, CropFlip(4))


def _folder(folder: Path, options: dict[str, str]) -> Source:
    size = int(options.get("size", 64))
    train, test, classes = read_folder(folder, size)
    return Source(train, test, classes, (3, size, size), folder.name)


def _npz(path: Path, options: dict[str, str]) -> Source:
    """`x_train`, or `x_train.NAME` for each input of a model that takes several; `y_train`, `x_test`, `y_test`; optionally
    `ids`, `classes` (names), and any other array (N,) as a group column."""
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
    reserved = ("x_train", "x_test", "y_train", "y_test", "ids", "classes")
    groups = {
        k: v
        for k, v in arrays.items()
        if k.partition(".")[0] not in reserved and v.shape == (len(y["train"]),)
    }
    more: dict[str, dict[str, Any]] = {"train": {"ids": arrays.get("ids"), "groups": groups}, "test": {}}
    train, test = (
        TensorData(x[p], torch.from_numpy(y[p].astype(np.int64)), classes=classes, name=path.stem, **more[p])  # type: ignore[arg-type]
        for p in ("train", "test")
    )
    return Source(train, test, classes, _shape(train), path.stem)


def _inputs(arrays: dict[str, np.ndarray], name: str) -> Inputs | None:
    parts = {
        k.removeprefix(f"{name}."): torch.from_numpy(v) for k, v in arrays.items() if k.startswith(f"{name}.")
    }
    return torch.from_numpy(arrays[name]) if name in arrays else parts or None


def _shape(data: Data) -> tuple[int, ...]:
    """The shape of one input; of `input_ids`, or else of the first, where a model takes several."""
    x = next(iter(data.samples(torch.arange(1)).batches(1))).x
    if isinstance(x, dict):
        x = x["input_ids"] if "input_ids" in x else next(iter(x.values()))
    return tuple(x.shape[1:])


def _from_factory(spec: str) -> Source:
    made = called(spec, {}, ExpungeError)
    if isinstance(made, Source):
        return made
    if not isinstance(made, tuple) or len(made) != 2:
        raise ExpungeError(
            f"{spec} returned {type(made).__name__}; a data factory returns (train, test) or a Source."
        )
    train, test = as_data(made[0]), as_data(made[1])
    raise_all([f"{spec}: the {n} set is empty." for n, d in (("train", train), ("test", test)) if not len(d)])
    classes = [str(c) for c in (train.classes or range(int(train.labels.max()) + 1))]
    return Source(train, test, classes, _shape(train), spec.rpartition(":")[2])


def _part(data: Data, what: str, limit: int, seed: int) -> Data:
    """A stratified part of `data`, exactly `limit` samples in their old order."""
    if limit > len(data):
        raise ExpungeError(f"a limit of {limit} is more than the {len(data)} {what} samples there are.")
    draw = torch.Generator().manual_seed(seed)
    members = [(data.labels == k).nonzero()[:, 0] for k in data.labels.unique()]
    counts = [limit * len(of) // len(data) for of in members]
    # what rounding down leaves goes to the classes that lost most by it
    order = sorted(range(len(members)), key=lambda k: -(limit * len(members[k]) % len(data)))
    for k in order[: limit - sum(counts)]:
        counts[k] += 1
    chosen = [of[torch.randperm(len(of), generator=draw)[:n]] for of, n in zip(members, counts, strict=True)]
    return _like(data, torch.cat(chosen).sort().values)


def _like(data: Data, kept: Tensor, **other: Any) -> Data:
    """`data` with the samples at `kept` alone, and with what `other` names in place of its own."""
    more: dict[str, Any] = {
        "ids": None if data.ids is None else data.ids[kept.numpy()],
        "groups": {k: v[kept.numpy()] for k, v in data.groups.items()},
        "classes": data.classes,
        "augment": data.augment,
        "name": data.name,
        **other,
    }
    if isinstance(data, TensorData):
        x = {k: v[kept] for k, v in data.x.items()} if isinstance(data.x, dict) else data.x[kept]
        return TensorData(x, data.labels[kept], **more)
    if isinstance(data, StreamData):
        given: dict[str, Any] = {"label": data.label, "workers": data.workers, "collate": data.collate}
        # positions as an array: a list of them would hold an object for each sample
        return StreamData(Subset(data.dataset, kept.numpy()), labels=data.labels[kept], **given, **more)  # type: ignore[arg-type]
    raise ExpungeError(f"a part of a {type(data).__name__} cannot be taken; leave the options out.")
