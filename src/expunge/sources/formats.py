"""Readers of data files: IDX and the three forms of CIFAR-10. None of them runs code in a file."""

from __future__ import annotations

import gzip
import io
import math
import pickle
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import ExpungeError, MissingExtra, raise_all
from .regular_files import check_regular

# bytes of a CIFAR-10 record: a label and 3 x 32 x 32 pixels
RECORD_BYTES = 3073
# the IDX code for unsigned bytes
IDX_BYTES = 8
# values of the largest IDX file that is read: 4 GiB
MOST_VALUES = 1 << 32
# everything that a pickled NumPy array needs; none of it can act
SAFE_GLOBALS = {
    (module, name)
    for module in ("numpy.core.multiarray", "numpy._core.multiarray")
    for name in ("_reconstruct", "scalar")
} | {("numpy", "ndarray"), ("numpy", "dtype"), ("_codecs", "encode")}


def read_idx(folder: Path, name: str, rank: int) -> np.ndarray:
    """Read an IDX file of bytes, plain or gzipped.

    The format: two zero bytes, the type (8 for bytes), the number of axes, the sizes (big-endian), then the values.

    Args:
        folder: The folder with the file.
        name: The file name without `.gz`.
        rank: The expected number of axes.

    Raises:
        ExpungeError: The file is missing, cut off, of another format or of another rank.
    """
    path = next((p for p in (folder / f"{name}.gz", folder / name) if p.is_file()), None)
    if path is None:
        raise ExpungeError(f"{folder} has no {name} or {name}.gz; give the folder with the four IDX files.")
    try:
        with (gzip.open if path.suffix == ".gz" else open)(path, "rb") as file:  # type: ignore[operator]
            zero, value_type, axes = struct.unpack(">HBB", file.read(4))
            shape = struct.unpack(f">{axes}I", file.read(4 * axes))
            # Not one byte more than the header declares, whatever the file inflates to.
            values = file.read(min(math.prod(shape), MOST_VALUES) + 1)
    except (OSError, EOFError, struct.error, zlib.error) as error:
        raise ExpungeError(f"{path} is no IDX file, or is cut off: {error}; download it again.") from error
    if zero or value_type != IDX_BYTES or len(values) != math.prod(shape):
        more = " or more" if len(values) > math.prod(shape) else ""
        raise ExpungeError(
            f"{path} is no IDX file of bytes, or is cut off: it declares the shape {shape}, but {len(values):,} bytes{more} follow; "
            "download it again."
        )
    if axes != rank:
        raise ExpungeError(
            f"{path} has {axes} axes instead of {rank}; check whether images and labels are swapped."
        )
    return np.frombuffer(values, np.uint8).reshape(shape).copy()


def read_cifar_binary(path: Path) -> tuple[Tensor, Tensor]:
    """Read a file of CIFAR-10's binary version: images uint8 (N, 3, 32, 32) and labels (N,).

    Raises:
        ExpungeError: The file is missing or cut off, or a label is out of range.
    """
    raw = np.fromfile(path, np.uint8) if path.is_file() else np.empty(0, np.uint8)
    if not len(raw) or len(raw) % RECORD_BYTES:
        raise ExpungeError(
            f"{path} is missing or cut off: its size is no multiple of {RECORD_BYTES:,} bytes; download it again."
        )
    rows = torch.from_numpy(raw.reshape(-1, RECORD_BYTES))
    return _checked(path, rows[:, 1:].reshape(-1, 3, 32, 32).clone(), rows[:, 0].long())


class _ArrayUnpickler(pickle.Unpickler):
    """Reads dicts, lists, bytes and NumPy arrays. It refuses all other objects and imports nothing for them."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in SAFE_GLOBALS:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which no data file needs")
        return super().find_class(module, name)


def read_cifar_pickle(path: Path) -> tuple[Tensor, Tensor]:
    """Read a file of CIFAR-10's python version: images uint8 (N, 3, 32, 32) and labels (N,).

    The file is a pickled dict with `data` (N, 3072) and `labels`.

    Raises:
        ExpungeError: The file is broken, holds other objects, or a label is out of range.
    """
    try:
        with path.open("rb") as file:
            batch = _ArrayUnpickler(file, encoding="bytes").load()
        pixels, labels = np.asarray(batch[b"data"]), np.asarray(batch[b"labels"], np.int64)
        if pixels.dtype != np.uint8 or pixels.shape != (len(labels), RECORD_BYTES - 1):
            raise ValueError(f"its data is {pixels.dtype} {pixels.shape} for {len(labels)} labels")
    # A broken pickle can raise nearly anything.
    except Exception as error:
        raise ExpungeError(
            f"{path} is no batch of CIFAR-10's python version, or is broken or unsafe: {type(error).__name__}: {error}; "
            "download it again."
        ) from error
    return _checked(path, torch.from_numpy(pixels.reshape(-1, 3, 32, 32).copy()), torch.from_numpy(labels))


def read_image_parquet(path: Path, highest_label: int | None = None) -> tuple[Tensor, Tensor]:
    """Read images uint8 (N, 3, H, W) and labels (N,) from a parquet file in the Hugging Face layout.

    The columns are `img` {bytes, path} and `label`.

    Raises:
        MissingExtra: pyarrow is not installed.
        ExpungeError: The file or images in it cannot be read. Lists every broken image.
    """
    from PIL import Image

    try:
        from pyarrow import parquet
    except ImportError as error:
        raise MissingExtra("reading parquet files", "images") from error
    check_regular(path)
    try:
        table = parquet.read_table(path, columns=["img", "label"])
        encoded = table["img"].combine_chunks().field("bytes").to_pylist()
        values = table["label"].to_pylist()
    # pyarrow raises many types of errors.
    except Exception as error:
        raise ExpungeError(
            f"{path} cannot be read: {error}; give a parquet file with the columns img {{bytes, path}} and label."
        ) from error

    labels = _parquet_labels(path, values, highest_label)

    def decode(raw: bytes) -> np.ndarray | str:
        try:
            return np.asarray(Image.open(io.BytesIO(raw)).convert("RGB"))
        # Pillow raises many types of errors for broken images.
        except Exception as error:
            return f"{type(error).__name__}: {error}"

    # Threads help: Pillow decodes without Python's lock.
    with ThreadPoolExecutor() as pool:
        images = list(pool.map(decode, encoded))
    raise_all(
        [
            f"{path}: image {n} cannot be read: {image}; remove or replace it."
            for n, image in enumerate(images)
            if isinstance(image, str)
        ]
    )
    sizes = {image.shape for image in images if not isinstance(image, str)}
    if len(sizes) != 1:
        raise ExpungeError(f"{path} has images of {len(sizes)} sizes; give images of one size.")
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous(), labels  # type: ignore[arg-type]


def _parquet_labels(path: Path, values: list[Any], highest: int | None) -> Tensor:
    """The labels (N,), after a check that each is a whole number from 0. A missing label would become any number."""
    allowed = range(2**63 if highest is None else highest + 1)
    wrong = [
        n
        for n, v in enumerate(values, 1)
        if not isinstance(v, int) or isinstance(v, bool) or v not in allowed
    ]
    if wrong:
        numbers = "whole numbers from 0" + ("" if highest is None else f" to {highest}")
        raise ExpungeError(
            f"{path} has {len(wrong)} labels that are no {numbers} (first: row {wrong[0]}, {values[wrong[0] - 1]!r}); "
            "correct or remove these rows."
        )
    return torch.tensor(values, dtype=torch.int64)


def _checked(path: Path, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """The images and labels, after a check that the labels go from 0 to 9."""
    if int(y.min()) < 0 or int(y.max()) > 9:
        raise ExpungeError(
            f"{path} has labels from {int(y.min())} to {int(y.max())}; labels of CIFAR-10 go from 0 to 9."
        )
    return x, y
