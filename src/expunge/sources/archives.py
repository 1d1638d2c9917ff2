"""Read NumPy archives (.npz). Headers are checked first: no array is made that the file does not hold."""

from __future__ import annotations

import math
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ExpungeError, raise_all
from .regular_files import check_inflated, check_regular

# bytes of the longest header; those of plain arrays have less than 200
LONGEST_HEADER = 10_000
# types of arrays that can be read without pickles and mean something here: numbers, texts, bytes, dates
ALLOWED_KINDS = "biufcUSmM"


def read_headers(path: Path) -> dict[str, tuple[tuple[int, ...], np.dtype]]:
    """Return {array: (shape, dtype)} of a NumPy archive, without reading an array.

    Raises:
        ExpungeError: The file is missing or broken, is not what its headers say, inflates beyond the limit, or has pickled
            objects. Lists every problem of the arrays.
    """
    check_regular(path)
    with _opened(path) as archive:
        members = archive.infolist()
        check_inflated(path, sum(member.file_size for member in members))
        problems, headers = [], {}
        for member in members:
            name = member.filename.removesuffix(".npy")
            try:
                if not member.filename.endswith(".npy"):
                    raise ValueError("it is no array")
                if name in headers:
                    raise ValueError("it occurs twice")
                headers[name] = _header(archive, member)
            # A broken header can raise nearly anything.
            except Exception as error:
                problems.append(
                    f"{path}: '{name}' cannot be read: {error}; write the archive with np.savez, without object arrays."
                )
        raise_all(problems)
        return headers


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Read all arrays of a NumPy archive, in the byte order of this machine. Archives with pickled objects are refused.

    Raises:
        ExpungeError: As `read_headers` does, or an array is cut off or broken.
    """
    names = read_headers(path)
    arrays, problems = {}, []
    with np.load(path, allow_pickle=False) as file:
        for name in names:
            try:
                array = file[name]
            # A broken array can raise nearly anything.
            except Exception as error:
                problems.append(f"{path}: '{name}' cannot be read: {error}; write the archive again.")
                continue
            arrays[name] = array.astype(array.dtype.newbyteorder("="), copy=False)
    raise_all(problems)
    return arrays


def read_numbers(path: Path) -> np.ndarray:
    """Read one array of numbers (.npy). A broken file can raise nearly anything."""
    check_regular(path)
    array = np.load(path, allow_pickle=False)
    if array.dtype.kind not in "biuf":
        raise ValueError(f"it holds {array.dtype}, no numbers")
    return array


def _opened(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    # A broken archive can raise nearly anything.
    except Exception as error:
        raise ExpungeError(
            f"{path} cannot be read as .npz: {error}; write it with np.savez, without object arrays."
        ) from error


def _header(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> tuple[tuple[int, ...], np.dtype]:
    """The shape and the dtype of an array, after a check that the member has this size."""
    with archive.open(member) as file:
        version: Any = np.lib.format.read_magic(file)
        # A longer header would be read whole before NumPy refuses it.
        start = file.peek(4)  # type: ignore[attr-defined]
        length = int.from_bytes(start[: 2 if version == (1, 0) else 4], "little")
        if length > LONGEST_HEADER:
            raise ValueError(f"its header has {length:,} bytes")
        reader = (
            np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        )
        shape, _, dtype = reader(file)
        size = math.prod(shape) * dtype.itemsize
        if dtype.kind not in ALLOWED_KINDS:
            raise ValueError(f"it is an array of {dtype}, which may hold pickled objects")
        if min(shape, default=0) < 0 or file.tell() + size != member.file_size:
            raise ValueError(
                f"it declares the shape {shape}, but holds {member.file_size - file.tell():,} bytes"
            )
        return shape, dtype
