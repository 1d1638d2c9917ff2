"""Readers of the files that data comes in: IDX, the three forms of CIFAR-10, and NumPy archives. None of them runs code."""

from __future__ import annotations

import gzip
import io
import math
import pickle
import struct
import zipfile
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import ExpungeError, MissingExtra, raise_all

RECORD = 3073  # bytes of a CIFAR-10 record: a label, then 3 x 32 x 32 pixels
# what a pickled NumPy array needs, and nothing that could act
PICKLED = {
    (module, name)
    for module in ("numpy.core.multiarray", "numpy._core.multiarray")
    for name in ("_reconstruct", "scalar")
} | {("numpy", "ndarray"), ("numpy", "dtype"), ("_codecs", "encode")}


def idx(folder: Path, name: str, rank: int) -> np.ndarray:
    """An IDX file of bytes with `rank` axes, plain or gzipped. Raises `ExpungeError` for other files, and for cut off ones.

    Source: the description of the format on the page of MNIST; 0, 0, type (8: bytes), rank, then the sizes, big-endian.
    """
    path = next((p for p in (folder / f"{name}.gz", folder / name) if p.is_file()), None)
    if path is None:
        raise ExpungeError(f"{folder} has no {name} or {name}.gz; name the folder with the four IDX files.")
    try:
        raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        zero, kind, axes = struct.unpack(">HBB", raw[:4])
        shape = struct.unpack(f">{axes}I", raw[4 : 4 + 4 * axes])
    except (OSError, EOFError, struct.error, zlib.error) as error:
        raise ExpungeError(f"{path} is no IDX file, or is cut off: {error}.") from error
    data = raw[4 + 4 * axes :]
    if zero or kind != 8 or len(data) != math.prod(shape):
        raise ExpungeError(
            f"{path} is no IDX file of bytes, or is cut off: its head says {shape}, {len(data)} bytes follow."
        )
    if axes != rank:
        raise ExpungeError(f"{path} has {axes} axes, expected {rank}; are images and labels mixed up?")
    return np.frombuffer(data, np.uint8).reshape(shape).copy()


def cifar_binary(path: Path) -> tuple[Tensor, Tensor]:
    """Images uint8 (N, 3, 32, 32) and labels (N,) of a file of the binary version. Raises `ExpungeError`."""
    raw = np.fromfile(path, np.uint8) if path.is_file() else np.empty(0, np.uint8)
    if not len(raw) or len(raw) % RECORD:
        raise ExpungeError(f"{path} is missing or cut off: its size is no multiple of {RECORD:,} bytes.")
    rows = torch.from_numpy(raw.reshape(-1, RECORD))
    return _ten(path, rows[:, 1:].reshape(-1, 3, 32, 32).clone(), rows[:, 0].long())


class _Arrays(pickle.Unpickler):
    """Reads pickles of dicts, lists, bytes and NumPy arrays; whatever else they name is refused, not imported."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in PICKLED:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which no data file needs")
        return super().find_class(module, name)


def cifar_pickle(path: Path) -> tuple[Tensor, Tensor]:
    """The same of a file of the 'python version': a pickled dict of `data` (N, 3072) and `labels`. Raises `ExpungeError`."""
    try:
        with path.open("rb") as file:
            found = _Arrays(file, encoding="bytes").load()
        pixels, labels = np.asarray(found[b"data"]), np.asarray(found[b"labels"], np.int64)
        if pixels.dtype != np.uint8 or pixels.shape != (len(labels), RECORD - 1):
            raise ValueError(f"its data is {pixels.dtype} {pixels.shape} for {len(labels)} labels")
    except Exception as error:  # a broken pickle can raise nearly anything
        raise ExpungeError(
            f"{path} is no batch of CIFAR-10's python version, or is broken or unsafe: {type(error).__name__}: {error}."
        ) from error
    return _ten(path, torch.from_numpy(pixels.reshape(-1, 3, 32, 32).copy()), torch.from_numpy(labels))


def parquet(path: Path) -> tuple[Tensor, Tensor]:
    """Images uint8 (N, 3, H, W) and labels (N,) of a file in the Hugging Face layout: columns `img` {bytes, path} and `label`.

    Raises `MissingExtra` without pyarrow and Pillow, `ExpungeError` naming every image that cannot be read.
    """
    try:
        from PIL import Image
        from pyarrow import parquet as reader
    except ImportError as error:
        raise MissingExtra("reading parquet files", "images") from error
    try:
        table = reader.read_table(path, columns=["img", "label"])
        encoded = table["img"].combine_chunks().field("bytes").to_pylist()
        labels = torch.from_numpy(table["label"].to_numpy().astype(np.int64))
    except Exception as error:  # pyarrow raises many kinds
        raise ExpungeError(
            f"{path} cannot be read as parquet with the columns img {{bytes, path}} and label: {error}."
        ) from error

    def decode(raw: bytes) -> np.ndarray | str:
        try:
            return np.asarray(Image.open(io.BytesIO(raw)).convert("RGB"))
        except Exception as error:  # Pillow raises many kinds for broken images
            return f"{type(error).__name__}: {error}"

    with ThreadPoolExecutor() as pool:  # decoding releases the interpreter lock
        images = list(pool.map(decode, encoded))
    raise_all([f"{path}: image {n} cannot be read: {i}." for n, i in enumerate(images) if isinstance(i, str)])
    sizes = {i.shape for i in images if not isinstance(i, str)}
    if len(sizes) != 1:
        raise ExpungeError(f"{path} has images of {len(sizes)} sizes; images of one size are needed.")
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous(), labels  # type: ignore[arg-type]


def _ten(path: Path, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    if int(y.min()) < 0 or int(y.max()) > 9:
        raise ExpungeError(f"{path} has labels from {int(y.min())} to {int(y.max())}; CIFAR-10 has 0 to 9.")
    return x, y


def npz(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a NumPy archive, without pickles. Raises `ExpungeError`."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return {k: file[k] for k in file.files}
    except (OSError, ValueError, EOFError, AttributeError, zipfile.BadZipFile, zlib.error) as error:
        raise ExpungeError(f"{path} cannot be read as .npz without pickles: {error}.") from error
