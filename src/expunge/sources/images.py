"""Images that are decoded when they are asked for, wherever their bytes are: files, a data set, an archive.

`DecodedImages` is the base. The sources of images differ in where an image is opened.
"""

from __future__ import annotations

import warnings
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Subset

from ..data.items import WHITE, check_range
from ..data.resize import Resize
from ..data.stream import StreamData
from ..data.tensors import TensorData
from ..errors import ExpungeError, raise_all

# images that are checked or decoded at a time
CHUNK = 4096
# side of the images without the options `size` and `crop`
DEFAULT_SIZE = 64
# grey images of 16 bits whose pixels are all below this share of white get a note
DARK_SHARE = 0.25


class DecodedImages(Dataset):
    """Images that are decoded when they are asked for: uint8 (C, H, W).

    They stay bytes until a batch is on the device, since bytes are a quarter of the floats.

    Args:
        labels: Class numbers (N,).
        resize: Makes all images one size.
    """

    def __init__(self, labels: np.ndarray, resize: Resize):
        # a tensor and not a list: workers share it
        self.targets, self.resize = torch.from_numpy(labels), resize
        # {position of an image of 16 bits that was read here: its brightest pixel}
        self.brightest: dict[int, int] = {}

    @abstractmethod
    def open(self, index: int) -> Any:
        """Return the image at a position, as `PIL.Image.open` does."""

    @abstractmethod
    def place(self, index: int) -> str:
        """Return where an image is, for messages."""

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        try:
            with self.open(index) as image:
                self._note_brightest(index, image)
                return self.resize(image), int(self.targets[index])
        # Pillow raises many types of errors for broken files.
        except Exception as error:
            raise ExpungeError(self._unreadable(index, error)) from error

    def problem(self, index: int) -> str | None:
        """Decode an image and return what is wrong with it. `verify` of Pillow finds no truncated jpg, bmp or gif."""
        try:
            with self.open(index) as image:
                # A jpg decodes faster at an eighth of its size. All of its bytes are read.
                image.draft(None, (max(1, image.width // 8), max(1, image.height // 8)))
                check_range(image)
                image.load()
                self._note_brightest(index, image)
        # Pillow raises many types of errors for broken files.
        except Exception as error:
            return self._unreadable(index, error)
        return None

    def _note_brightest(self, index: int, image: Any) -> None:
        if image.mode.startswith("I"):
            self.brightest[int(index)] = int(np.asarray(image).max())

    def _unreadable(self, index: int, error: Exception) -> str:
        place = self.place(index)
        # Pillow's own message for a file that is no image repeats its path.
        detail = "" if type(error).__name__ == "UnidentifiedImageError" else f": {error}"
        return f"{place} cannot be read as an image: {type(error).__name__}{detail}; remove or replace it."


def image_resize(options: dict[str, str]) -> Resize:
    """Return how the options of a source of images resize them. Raises `ExpungeError`."""
    crop = int(options["crop"]) if "crop" in options else None
    resize = Resize(
        int(options.get("size", crop or DEFAULT_SIZE)),
        crop,
        int(options.get("channels", 3)),
        options.get("exif") == "1",
        options.get("interpolation", "bicubic"),
    )
    if crop is not None and crop > resize.size:
        raise ExpungeError(
            f"crop={crop} is more than size={resize.size}, the short side that it is cut from; give size={crop} or more."
        )
    return resize


def image_data(
    images: DecodedImages,
    classes: Sequence[str],
    name: str,
    ids: np.ndarray | Sequence[str] | None,
    groups: Mapping[str, Any],
    workers: int = 0,
) -> StreamData:
    """Return images as `StreamData`.

    Args:
        images: The images.
        classes: Class names.
        name: Name for records.
        ids: Ids (N,).
        groups: {column: values (N,)}.
        workers: Processes that decode images ahead of the steps.
    """
    return StreamData(
        images,
        labels=images.targets,
        classes=classes,
        name=name,
        ids=ids,
        groups=groups,
        read_as=str(images.resize),
        workers=workers,
    )


def check_images(*parts: StreamData) -> None:
    """Decode every image once, and keep none.

    Raises:
        ExpungeError: Lists every broken image.
    """
    problems = []
    with ThreadPoolExecutor() as pool:
        for data in parts:
            for start in range(0, len(data), CHUNK):
                positions = range(start, min(start + CHUNK, len(data)))
                problems += [p for p in pool.map(lambda k: _problem(data.dataset, k), positions) if p]  # noqa: B023
    raise_all(sorted(problems))
    _warn_dark(parts)


def _problem(images: Any, index: int) -> str | None:
    # the options `limit` and `test_limit` make subsets
    while isinstance(images, Subset):
        images, index = images.dataset, int(images.indices[index])
    return images.problem(index)


def _warn_dark(parts: Sequence[StreamData]) -> None:
    """Warn of images of 16 bits that have no bright pixel: their numbers have a smaller range, such as 12 bits."""
    brightest: list[int] = []
    for data in parts:
        images: Any = data.dataset
        while isinstance(images, Subset):
            images = images.dataset
        brightest += images.brightest.values()
    if brightest and max(brightest) < DARK_SHARE * WHITE:
        warnings.warn(
            f"{len(brightest):,} images of 16 bits have no pixel above {max(brightest):,}, and {WHITE:,} is white, so they are nearly "
            "black with 8 bits; if their numbers have a smaller range, such as 12 bits, scale them to the whole range.",
            stacklevel=5,
        )


def in_memory(*parts: StreamData) -> list[TensorData]:
    """Decode all images now and return the same samples as `TensorData`. No epoch decodes them again.

    Raises:
        ExpungeError: Lists every broken image.
    """
    decoded = [_decode(data.dataset) for data in parts]
    raise_all(sorted(p for _, problems in decoded for p in problems))
    _warn_dark(parts)
    return [
        TensorData(x, data.labels, **data.attributes(), fingerprint=data.fingerprint())
        for (x, _), data in zip(decoded, parts, strict=True)
    ]


def _decode(images: Dataset) -> tuple[Tensor, list[str]]:
    """All images as uint8 (N, C, H, W), and one sentence per broken image."""
    count, problems = len(images), []  # type: ignore[arg-type]
    x = torch.empty(0)
    # Threads help: Pillow decodes without Python's lock.
    with ThreadPoolExecutor() as pool:
        for start in range(0, count, CHUNK):
            tasks = [pool.submit(images.__getitem__, k) for k in range(start, min(start + CHUNK, count))]
            problems += [p for t in tasks if isinstance(e := t.exception(), ExpungeError) for p in e.problems]
            # After a broken image, only the other broken images matter.
            if problems:
                continue
            chunk = torch.stack([t.result()[0] for t in tasks])
            x = chunk.new_empty(count, *chunk.shape[1:]) if start == 0 else x
            x[start : start + len(chunk)] = chunk
    return x, problems


def warn_unread(where: str, unread: Mapping[str, Sequence[str]], read: int) -> None:
    """Warn of files that are not read.

    Args:
        where: The folder or archive.
        unread: {reason: names}, such as {"*.heic": ["cat/1.heic"]}.
        read: Number of files that are read.
    """
    count = sum(map(len, unread.values()))
    if count:
        listed = ", ".join(
            f"{len(names):,} {why} (first: {names[0]})" for why, names in sorted(unread.items())
        )
        warnings.warn(
            f"{where}: {count:,} of {count + read:,} files are not read: {listed}. If the model was trained on them, convert or "
            "rename them.",
            stacklevel=5,
        )
