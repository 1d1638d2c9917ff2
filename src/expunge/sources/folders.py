"""Images in class folders: found, checked, and decoded once into memory where they fit there, else when asked for, with no
Python list of all of them.

Names are kept as one NumPy array of variable-width text (about 16 bytes and the name's own a sample), so that 14 million
images cost hundreds of megabytes, not gigabytes, and workers of a `DataLoader` share the pages.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from ..data.resize import Fit
from ..data.stream import StreamData
from ..data.tensors import TensorData
from ..errors import ExpungeError, MissingExtra, raise_all
from .source import held_out

IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".gif", ".ppm", ".pgm")
TEXT = np.dtypes.StringDType()
TESTS = ("test", "val", "valid", "validation")  # the first that is there
CHECKED = 4096  # files whose check is under way at once
FITS = 1 << 30  # bytes of decoded images that are held in memory without being asked to


class ImageFolder(Dataset):
    """Images by their names (N,) below `root` and labels (N,): uint8 (C, H, W) as `fit` makes them, decoded when asked for.
    Batches of them become numbers in [0, 1] on the device: a quarter of the bytes to carry there."""

    def __init__(self, root: Path, names: np.ndarray, labels: np.ndarray, fit: Fit):
        self.root, self.names, self.targets, self.fit = root, names, torch.from_numpy(labels), fit

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        from PIL import Image

        file = self.root / str(self.names[index])
        try:
            with Image.open(file) as image:
                return self.fit(image), int(self.targets[index])
        except Exception as error:  # Pillow raises many kinds for broken files
            raise ExpungeError(_unreadable(file, error)) from error


def read_folder(
    root: Path, fit: Fit, *, workers: int = 0, check: bool = True
) -> tuple[StreamData, StreamData, list[str]]:
    """Training and test data and the class names of `root/CLASS/*.png`, or `root/train/CLASS` and `root/test/CLASS` (or a folder
    of `TESTS` that comes after it).

    Without these parts a fixed fifth of each class is held out for testing. Ids are the paths below `root`, and
    each image's folder is the group column `folder`. `fit` makes the images one size. `workers` processes decode ahead of
    the steps. Raises `ExpungeError` with every broken image at once, unless `check` is false: then each is met when it is
    read (opening millions of files takes longer than many a run).
    """
    try:
        import PIL  # noqa: F401
    except ImportError as error:
        raise MissingExtra("reading image files", "images") from error
    parts = _parts(root)
    classes = _classes(root / parts[0])
    found = [_names(root, part, classes) for part in parts]
    if len(classes) < 2 or not all(len(names) for names, _ in found):
        raise ExpungeError(
            f"{root} has {len(classes)} class folders with images; give DIR/CLASS/*.png with two classes or more, "
            "or DIR/train/CLASS and DIR/test/CLASS."
        )
    empty = np.flatnonzero(np.bincount(found[0][1], minlength=len(classes)) == 0)
    unknown = [c for part in parts[1:] for c in _classes(root / part) if c not in classes]
    raise_all(
        [
            f"{root / parts[-1] / c} is a class that {root / parts[0]} has not; add it there, or remove it."
            for c in unknown
        ]
        + [f"{root / parts[0] / classes[k]} holds no images; put some there, or remove it." for k in empty]
        + [p for names, _ in found if check for p in _broken(root, names)]
    )
    if len(found) == 1:
        held = held_out(found[0][1], len(classes))
        found = [(names[keep], labels[keep]) for names, labels in found for keep in (~held, held)]
    train, test = (
        StreamData(
            ImageFolder(root, names, labels, fit),
            labels=torch.from_numpy(labels),
            classes=classes,
            name=root.name,
            ids=names,
            groups={"folder": _folders(names)},
            read_as=str(fit),
            workers=workers,
        )
        for names, labels in found
    )
    return train, test, classes


def in_memory(*parts: StreamData) -> list[TensorData]:
    """The same samples, every image decoded now: no epoch decodes it again. Raises `ExpungeError` with every broken one."""
    decoded = [_decoded(data.dataset) for data in parts]
    raise_all(sorted(p for _, problems in decoded for p in problems), ExpungeError)
    return [
        TensorData(x, data.labels, **data.about(), fingerprint=data.fingerprint())
        for (x, _), data in zip(decoded, parts, strict=True)
    ]


def _decoded(images: Dataset) -> tuple[Tensor, list[str]]:
    """uint8 (N, C, H, W), and a sentence for each image that is none."""
    count, problems = len(images), []  # type: ignore[arg-type]
    x = torch.empty(0)
    with ThreadPoolExecutor() as pool:  # Pillow decodes without Python's lock
        for start in range(0, count, CHECKED):
            tasks = [pool.submit(images.__getitem__, k) for k in range(start, min(start + CHECKED, count))]
            problems += [p for t in tasks if isinstance(e := t.exception(), ExpungeError) for p in e.problems]
            if problems:
                continue  # only what else is broken matters now
            part = torch.stack([t.result()[0] for t in tasks])
            x = part.new_empty(count, *part.shape[1:]) if start == 0 else x
            x[start : start + len(part)] = part
    return x, problems


def _parts(root: Path) -> list[str]:
    """The folders of the training and of the test part below `root`, or `root` itself as the only one."""
    tests = [name for name in TESTS if (root / name).is_dir()]
    if (root / "train").is_dir() and tests:
        return ["train", tests[0]]
    if _classes(root / "train"):
        raise ExpungeError(
            f"{root} has train/ and none of {', '.join(TESTS)} beside it; add one with the same class folders, or name "
            f"folder:{root / 'train'}, of which a fifth is held out for testing."
        )
    return [""]


def _classes(folder: Path) -> list[str]:
    if not folder.is_dir():
        return []
    return sorted(p.name for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))


def _names(root: Path, part: str, classes: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Paths below `root` (N,) and labels (N,), class by class, sorted within each."""
    names = [np.array([], TEXT)]
    for c in classes:
        files = (f for f in (root / part / c).rglob("*") if f.suffix.lower() in IMAGES)
        paths = (f.relative_to(root).as_posix() for f in files)
        # what programs leave behind (.ipynb_checkpoints, ._picture.png) is no picture of the class
        names.append(np.array(sorted(p for p in paths if "/." not in p), TEXT))
    labels = np.repeat(np.arange(len(classes)), [len(n) for n in names[1:]])
    return np.concatenate(names), labels


def _folders(names: np.ndarray) -> np.ndarray:
    """The folder that each image lies in (N,), found for some names at a time."""
    parts = [names[start : start + CHECKED] for start in range(0, len(names), CHECKED)]
    found = [np.array([n.rpartition("/")[0].rpartition("/")[2] for n in some], TEXT) for some in parts]
    return np.concatenate([np.array([], TEXT), *found])


def _unreadable(file: Path, error: Exception) -> str:
    return f"{file} cannot be read as an image: {type(error).__name__}; remove or replace it."


def _broken(root: Path, names: np.ndarray) -> Iterator[str]:
    """A sentence for each file that is no image."""
    from PIL import Image

    def problem(name: str) -> str | None:
        try:
            with Image.open(root / name) as image:
                image.verify()
        except Exception as error:  # Pillow raises many kinds for broken files
            return _unreadable(root / name, error)
        return None

    with ThreadPoolExecutor() as pool:
        for start in range(0, len(names), CHECKED):
            yield from (p for p in pool.map(problem, names[start : start + CHECKED]) if p)
