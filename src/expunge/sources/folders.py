"""Images in class folders.

Images are decoded into memory once if they fit, else each time they are asked for. File names are one NumPy array of
variable-width text: 16 bytes and the characters of a name per image. 14 million images cost hundreds of megabytes, and
the workers of a `DataLoader` share them.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from ..data.resize import Resize
from ..data.stream import StreamData
from ..data.tensors import TensorData
from ..errors import ExpungeError, MissingExtra, raise_all
from .source import held_out

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".gif", ".ppm", ".pgm")
TEXT = np.dtypes.StringDType()
# names of a folder with test images; the first that exists is used
TEST_FOLDERS = ("test", "val", "valid", "validation")
# files that are checked or decoded at a time
CHUNK = 4096
# bytes of decoded images; up to this size they are held in memory by default
MEMORY_LIMIT = 1 << 30


class ImageFolder(Dataset):
    """Images that are decoded when they are asked for: uint8 (C, H, W).

    They stay bytes until a batch is on the device, since bytes are a quarter of the floats.

    Args:
        root: The folder that the names are relative to.
        names: File names (N,).
        labels: Labels (N,).
        resize: Makes all images one size.
    """

    def __init__(self, root: Path, names: np.ndarray, labels: np.ndarray, resize: Resize):
        self.root, self.names, self.targets, self.resize = root, names, torch.from_numpy(labels), resize

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        from PIL import Image

        path = self.root / str(self.names[index])
        try:
            with Image.open(path) as image:
                return self.resize(image), int(self.targets[index])
        # Pillow raises many types of errors for broken files.
        except Exception as error:
            raise ExpungeError(_unreadable(path, error)) from error


def read_folder(
    root: Path, resize: Resize, *, workers: int = 0, check: bool = True
) -> tuple[StreamData, StreamData, list[str]]:
    """Read `root/train/CLASS/*.png` and `root/test/CLASS/*.png`, or `root/CLASS/*.png`.

    The test folder may also be `val`, `valid` or `validation`. Without a test folder, a fixed fifth of each class is held
    out for testing. The id of an image is its path below `root`. The group column `folder` is the folder of each image.

    Args:
        root: The folder.
        resize: Makes all images one size.
        workers: Processes that decode images ahead of the steps.
        check: Whether to open every file now. For millions of files this takes longer than many runs. Without it, a broken
            image raises an error when it is read.

    Returns:
        Training data, test data and the class names.

    Raises:
        MissingExtra: Pillow is not installed.
        ExpungeError: There are fewer than two classes, the classes of the parts differ, or images are broken. Lists every one.
    """
    try:
        import PIL  # noqa: F401
    except ImportError as error:
        raise MissingExtra("reading image files", "images") from error
    parts = _parts(root)
    classes = class_names(root)
    files = [_list_images(root, part, classes) for part in parts]
    if len(classes) < 2 or not all(len(names) for names, _ in files):
        raise ExpungeError(
            f"{root} has {len(classes)} class folders with images; give DIR/CLASS/*.png with two classes or more, "
            "or DIR/train/CLASS and DIR/test/CLASS."
        )
    problems = _class_problems(root, parts, classes, labels=files[0][1])
    raise_all(problems + [p for names, _ in files if check for p in _broken_images(root, names)])
    if len(files) == 1:
        held = held_out(files[0][1], len(classes))
        files = [(names[which], labels[which]) for names, labels in files for which in (~held, held)]
    train, test = (
        StreamData(
            ImageFolder(root, names, labels, resize),
            labels=torch.from_numpy(labels),
            classes=classes,
            name=root.name,
            ids=names,
            groups={"folder": _folder_names(names)},
            read_as=str(resize),
            workers=workers,
        )
        for names, labels in files
    )
    return train, test, classes


def class_names(root: Path) -> list[str]:
    """Return the class names of a folder of images, from the names of its sub-folders. Raises `ExpungeError`."""
    return _class_folders(root / _parts(root)[0])


def _class_problems(root: Path, parts: list[str], classes: list[str], labels: np.ndarray) -> list[str]:
    """One sentence per class that only the test part has, and per class without training images."""
    empty = np.flatnonzero(np.bincount(labels, minlength=len(classes)) == 0)
    only_in_test = [c for part in parts[1:] for c in _class_folders(root / part) if c not in classes]
    return [
        f"{root / parts[-1] / c} is a class that {root / parts[0]} does not have; add it there, or remove it."
        for c in only_in_test
    ] + [f"{root / parts[0] / classes[k]} has no images; add images, or remove the folder." for k in empty]


def in_memory(*parts: StreamData) -> list[TensorData]:
    """Decode all images now and return the same samples as `TensorData`. No epoch decodes them again.

    Raises:
        ExpungeError: Lists every broken image.
    """
    decoded = [_decode(data.dataset) for data in parts]
    raise_all(sorted(p for _, problems in decoded for p in problems), ExpungeError)
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


def _parts(root: Path) -> list[str]:
    """The names of the training and the test folder, or [""] if `root` itself holds the classes."""
    test_folders = [name for name in TEST_FOLDERS if (root / name).is_dir()]
    if (root / "train").is_dir() and test_folders:
        return ["train", test_folders[0]]
    if _class_folders(root / "train"):
        raise ExpungeError(
            f"{root} has train/ but none of {', '.join(TEST_FOLDERS)}; add one with the same class folders, or give "
            f"folder:{root / 'train'}, which holds out a fifth for testing."
        )
    return [""]


def _class_folders(folder: Path) -> list[str]:
    if not folder.is_dir():
        return []
    return sorted(p.name for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))


def _list_images(root: Path, part: str, classes: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Paths below `root` (N,) and labels (N,), class by class, sorted in each class."""
    names = [np.array([], TEXT)]
    for c in classes:
        files = (f for f in (root / part / c).rglob("*") if f.suffix.lower() in IMAGE_SUFFIXES)
        paths = (f.relative_to(root).as_posix() for f in files)
        # Hidden files come from other programs: .ipynb_checkpoints, ._picture.png of macOS.
        names.append(np.array(sorted(p for p in paths if "/." not in p), TEXT))
    labels = np.repeat(np.arange(len(classes)), [len(n) for n in names[1:]])
    return np.concatenate(names), labels


def _folder_names(names: np.ndarray) -> np.ndarray:
    """The name of the folder that each image lies in (N,). Chunks keep the Python lists short."""
    chunks = [names[start : start + CHUNK] for start in range(0, len(names), CHUNK)]
    folders = [np.array([n.rpartition("/")[0].rpartition("/")[2] for n in chunk], TEXT) for chunk in chunks]
    return np.concatenate([np.array([], TEXT), *folders])


def _unreadable(path: Path, error: Exception) -> str:
    return f"{path} cannot be read as an image: {type(error).__name__}; remove or replace it."


def _broken_images(root: Path, names: np.ndarray) -> Iterator[str]:
    """Yield one sentence per file that is no image."""
    from PIL import Image

    def problem(name: str) -> str | None:
        try:
            with Image.open(root / name) as image:
                image.verify()
        # Pillow raises many types of errors for broken files.
        except Exception as error:
            return _unreadable(root / name, error)
        return None

    with ThreadPoolExecutor() as pool:
        for start in range(0, len(names), CHUNK):
            yield from (p for p in pool.map(problem, names[start : start + CHUNK]) if p)
