"""Data by name: the sets that ship or are common, folders of images, NumPy files, and the user's own functions."""

from __future__ import annotations

import gzip
import io
import struct
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from .data import CropFlip, Data, StreamData, TensorData, as_data
from .errors import ExpungeError, MissingExtra, raise_all
from .models import imported

IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".gif", ".ppm", ".pgm")
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


@dataclass(frozen=True)
class Source:
    """Training and test data, the class names, the shape of one input (C, H, W) and a name for records."""

    train: Data
    test: Data
    classes: list[str]
    shape: tuple[int, ...]
    name: str


def load(spec: str) -> Source:
    """Data by its spec: `digits`, `fashion-mnist:DIR`, `cifar10:DIR`, `folder:DIR`, `npz:FILE` or `package.module:factory`.

    Options follow a `?`: `limit=N` takes a stratified part of the training set (drawn by `seed=0`), `size=64` resizes the
    images of a folder. Raises `ExpungeError` saying what is missing or broken.
    """
    place, _, query = spec.partition("?")
    options = dict(parse_qsl(query))
    kind, _, where = place.partition(":")
    readers = {
        "digits": _digits,
        "fashion-mnist": _fashion,
        "cifar10": _cifar,
        "folder": _folder,
        "npz": _npz,
    }
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
    known = {"limit", "seed"} | ({"size"} if kind == "folder" else set())
    raise_all(
        [
            f"'{k}' is no option of {kind}; known: {', '.join(sorted(known))}."
            for k in options
            if k not in known
        ],
        ExpungeError,
    )
    return (
        _limited(source, int(options["limit"]), int(options.get("seed", 0))) if "limit" in options else source
    )


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
    parts = {
        k: _idx(folder, f"{s}-{kind}")
        for s in ("train", "t10k")
        for k, kind in ((f"{s}x", "images-idx3-ubyte"), (f"{s}y", "labels-idx1-ubyte"))
    }
    x, y, x_test, y_test = (torch.from_numpy(parts[k]) for k in ("trainx", "trainy", "t10kx", "t10ky"))
    raise_all(
        [
            f"{n}: {len(a)} images came with {len(b)} labels."
            for n, a, b in (("train", x, y), ("t10k", x_test, y_test))
            if len(a) != len(b)
        ],
        ExpungeError,
    )
    return _images(x[:, None], y, x_test[:, None], y_test, FASHION, "Fashion-MNIST")


def _idx(folder: Path, name: str) -> np.ndarray:
    """An IDX file of bytes, plain or gzipped."""
    path = next((p for p in (folder / f"{name}.gz", folder / name) if p.is_file()), None)
    if path is None:
        raise ExpungeError(f"{folder} has no {name} or {name}.gz; name the folder with the four IDX files.")
    try:
        raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        zero, kind, rank = struct.unpack(">HBB", raw[:4])
        shape = struct.unpack(f">{rank}I", raw[4 : 4 + 4 * rank])
    except (OSError, EOFError, struct.error) as error:
        raise ExpungeError(f"{path} is no IDX file, or is cut off: {error}.") from error
    data = raw[4 + 4 * rank :]
    if zero or kind != 8 or len(data) != int(np.prod(shape)):
        raise ExpungeError(
            f"{path} is no IDX file of bytes, or is cut off: its head says {shape}, {len(data)} bytes follow."
        )
    return np.frombuffer(data, np.uint8).reshape(shape).copy()


def _cifar(folder: Path, options: dict[str, str]) -> Source:
    if (folder / "data_batch_1.bin").is_file():
        train = [_cifar_records(folder / f"data_batch_{k}.bin") for k in range(1, 6)]
        x, y = torch.cat([t[0] for t in train]), torch.cat([t[1] for t in train])
        x_test, y_test = _cifar_records(folder / "test_batch.bin")
        name = "CIFAR-10"
    elif (folder / "train.parquet").is_file():
        (x, y), (x_test, y_test) = _parquet(folder / "train.parquet"), _parquet(folder / "test.parquet")
        name = "CIFAR-10 (JPEG)"
    else:
        raise ExpungeError(
            f"{folder} has neither train.parquet and test.parquet (columns img, label) nor data_batch_1.bin "
            "(the binary version); name a folder with one of them."
        )
    return _images(x, y, x_test, y_test, CIFAR, name, CropFlip(4))


def _cifar_records(path: Path) -> tuple[Tensor, Tensor]:
    """The binary version: a label byte and 3,072 pixel bytes a record."""
    raw = np.fromfile(path, np.uint8) if path.is_file() else np.empty(0, np.uint8)
    if not len(raw) or len(raw) % 3073:
        raise ExpungeError(f"{path} is missing or cut off: its size is no multiple of 3,073 bytes.")
    rows = torch.from_numpy(raw.reshape(-1, 3073))
    return rows[:, 1:].reshape(-1, 3, 32, 32).clone(), rows[:, 0].long()


def _parquet(path: Path) -> tuple[Tensor, Tensor]:
    """Encoded images and labels in the Hugging Face layout: column `img` {bytes, path}, column `label`."""
    try:
        from PIL import Image
        from pyarrow import parquet
    except ImportError as error:
        raise MissingExtra("reading parquet files", "images") from error
    try:
        table = parquet.read_table(path, columns=["img", "label"])
    except Exception as error:  # pyarrow raises many kinds
        raise ExpungeError(
            f"{path} cannot be read as parquet with the columns img and label: {error}."
        ) from error

    def decode(raw: bytes) -> np.ndarray:
        return np.asarray(Image.open(io.BytesIO(raw)).convert("RGB"))

    with ThreadPoolExecutor() as pool:  # decoding releases the interpreter lock
        pixels = np.stack(list(pool.map(decode, table["img"].combine_chunks().field("bytes").to_pylist())))
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous(), torch.from_numpy(
        table["label"].to_numpy().astype(np.int64)
    )


class ImageFolder(Dataset):
    """Images in class folders, decoded when asked for: float32 (3, size, size) in [0, 1]."""

    def __init__(self, files: Sequence[Path], labels: Sequence[int], size: int):
        self.files, self.targets, self.size = list(files), list(labels), size

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        from PIL import Image

        with Image.open(self.files[index]) as image:
            pixels = np.asarray(image.convert("RGB").resize((self.size, self.size), Image.Resampling.BICUBIC))
        return torch.from_numpy(pixels.copy()).permute(2, 0, 1).float() / 255, self.targets[index]


def _folder(folder: Path, options: dict[str, str]) -> Source:
    size = int(options.get("size", 64))
    parts = (
        [folder / "train", folder / "test"]
        if (folder / "train").is_dir() and (folder / "test").is_dir()
        else [folder]
    )
    classes = sorted(p.name for p in parts[0].iterdir() if p.is_dir()) if parts[0].is_dir() else []
    files = [
        [
            (f, k)
            for k, c in enumerate(classes)
            for f in sorted((part / c).rglob("*"))
            if f.suffix.lower() in IMAGES
        ]
        for part in parts
    ]
    if len(classes) < 2 or not all(files):
        raise ExpungeError(
            f"{folder} has {len(classes)} class folders with images; give DIR/CLASS/*.png with two classes or more, "
            "or DIR/train/CLASS and DIR/test/CLASS."
        )
    _check_images([f for part in files for f, _ in part])
    if len(files) == 1:  # hold a fifth of each class out for testing
        rank = {
            f: i
            for k in range(len(classes))
            for i, f in enumerate(
                np.random.RandomState(0).permutation([str(f) for f, c in files[0] if c == k])
            )
        }
        size_of = np.bincount([c for _, c in files[0]])
        files = [
            [fc for fc in files[0] if (rank[str(fc[0])] >= round(0.2 * size_of[fc[1]])) == keep]
            for keep in (True, False)
        ]

    def data(rows: list[tuple[Path, int]]) -> Data:
        paths = [f for f, _ in rows]
        return StreamData(
            ImageFolder(paths, [k for _, k in rows], size),
            classes=classes,
            name=folder.name,
            ids=[f.relative_to(folder).as_posix() for f in paths],
            groups={"folder": [f.parent.name for f in paths]},
        )

    return Source(data(files[0]), data(files[1]), classes, (3, size, size), folder.name)


def _check_images(files: list[Path]) -> None:
    from PIL import Image

    def problem(path: Path) -> str | None:
        try:
            with Image.open(path) as image:
                image.verify()
        except Exception as error:  # Pillow raises many kinds for broken files
            return f"{path} cannot be read as an image: {type(error).__name__}; remove or replace it."
        return None

    with ThreadPoolExecutor() as pool:
        raise_all([p for p in pool.map(problem, files) if p], ExpungeError)


def _npz(path: Path, options: dict[str, str]) -> Source:
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {k: file[k] for k in file.files}
    except (OSError, ValueError, EOFError) as error:
        raise ExpungeError(f"{path} cannot be read as .npz without pickles: {error}.") from error
    if missing := [k for k in ("x_train", "y_train", "x_test", "y_test") if k not in arrays]:
        raise ExpungeError(
            f"{path} has {sorted(arrays)}, not {missing}; name the arrays x_train, y_train, x_test, y_test."
        )
    n = len(arrays["y_train"])
    extra = {
        k: v
        for k, v in arrays.items()
        if k not in ("x_train", "y_train", "x_test", "y_test", "ids", "classes") and v.shape == (n,)
    }
    names = [str(c) for c in arrays.get("classes", range(int(arrays["y_train"].max()) + 1))]
    train = TensorData(
        torch.from_numpy(arrays["x_train"]),
        torch.from_numpy(arrays["y_train"].astype(np.int64)),
        ids=arrays.get("ids"),
        groups=extra,
        classes=names,
        name=path.stem,
    )
    test = TensorData(
        torch.from_numpy(arrays["x_test"]),
        torch.from_numpy(arrays["y_test"].astype(np.int64)),
        classes=names,
        name=path.stem,
    )
    return Source(train, test, names, tuple(arrays["x_train"].shape[1:]), path.stem)


def _from_factory(spec: str) -> Source:
    made = imported(spec, ExpungeError)()
    if isinstance(made, Source):
        return made
    if not isinstance(made, tuple) or len(made) != 2:
        raise ExpungeError(
            f"{spec} returned {type(made).__name__}; a data factory returns (train, test) or a Source."
        )
    train, test = as_data(made[0]), as_data(made[1])
    batch = next(iter(train.samples(torch.arange(1)).batches(1)))
    shape = tuple(batch.x.shape[1:]) if isinstance(batch.x, Tensor) else ()
    classes = [str(c) for c in (train.classes or range(int(train.labels.max()) + 1))]
    return Source(train, test, classes, shape, spec.rpartition(":")[2])


def _limited(source: Source, limit: int, seed: int) -> Source:
    """A stratified part of the training set; the test set stays whole."""
    train, draw = source.train, torch.Generator().manual_seed(seed)
    if not isinstance(train, TensorData) or not 0 < limit <= len(train) or not isinstance(train.x, Tensor):
        raise ExpungeError(f"limit={limit} needs data held in memory and a number from 1 to {len(train)}.")
    share = limit / len(train)
    kept = (
        torch.cat(
            [
                of[torch.randperm(len(of), generator=draw)[: round(share * len(of))]]
                for k in train.labels.unique()
                for of in [(train.labels == k).nonzero()[:, 0]]
            ]
        )
        .sort()
        .values
    )
    part = TensorData(
        train.x[kept],
        train.labels[kept],
        ids=None if train.ids is None else train.ids[kept.numpy()],
        groups={k: v[kept.numpy()] for k, v in train.groups.items()},
        classes=train.classes,
        augment=train.augment,
        name=train.name,
    )
    return Source(
        part, source.test, source.classes, source.shape, f"{source.name}, {len(part)} training samples"
    )
