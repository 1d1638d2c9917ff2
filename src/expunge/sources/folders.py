"""Images in class folders.

File names are one NumPy array of variable-width text: 16 bytes and the characters of a name per image. 14 million images
cost hundreds of megabytes, and the workers of a `DataLoader` share them.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..data.id_forms import encodable
from ..data.resize import Resize
from ..data.stream import StreamData
from ..errors import ExpungeError, raise_all
from .image_walk import IMAGE_SUFFIXES, Walk, walk_images
from .images import CHUNK, DecodedImages, image_data, warn_unread
from .labels import alike
from .source import held_out

TEXT = np.dtypes.StringDType()
# names of a folder with test images; the first that exists is used
TEST_FOLDERS = ("test", "val", "valid", "validation")


class ImageFolder(DecodedImages):
    """Image files below a folder.

    Args:
        root: The folder that the names are relative to.
        names: File names (N,).
        labels: Class numbers (N,).
        resize: Makes all images one size.
        renamed: {name: real name}, of files whose name is no UTF-8.
    """

    def __init__(
        self,
        root: Path,
        names: np.ndarray,
        labels: np.ndarray,
        resize: Resize,
        renamed: Mapping[str, str] | None = None,
    ):
        super().__init__(labels, resize)
        self.root, self.names, self.renamed = root, names, renamed or {}

    def open(self, index: int) -> Any:
        from PIL import Image

        name = str(self.names[index])
        return Image.open(self.root / self.renamed.get(name, name))

    def place(self, index: int) -> str:
        return str(self.root / str(self.names[index]))


def read_folder(
    root: Path, resize: Resize, *, workers: int = 0, known: Sequence[str] = ()
) -> tuple[StreamData, StreamData, list[str]]:
    """Read `root/train/CLASS/*.png` and `root/test/CLASS/*.png`, or `root/CLASS/*.png`.

    The test folder may also be `val`, `valid` or `validation`. Without a test folder, a fixed fifth of each class is held
    out for testing. The id of an image is its path below `root`. The group column `folder` is the folder of each image.
    A warning lists the files that are not read.

    Args:
        root: The folder.
        resize: Makes all images one size.
        workers: Processes that decode images ahead of the steps.
        known: Classes that come first, in this order, also without images.

    Returns:
        Training data, test data and the class names.

    Raises:
        ExpungeError: There are fewer than two classes, or the classes of the parts differ. Lists every problem.
    """
    parts = _parts(root)
    existing = _class_folders(root / parts[0])
    # names on the disk: those of known classes may be in the test folder only, or nowhere
    on_disk = {encodable(c): c for part in parts for c in _class_folders(root / part)}
    folders = [on_disk.get(c, c) for c in known] + [c for c in existing if encodable(c) not in known]
    classes = [encodable(c) for c in folders]
    walk = Walk()
    files = [_list_images(root, part, folders, walk) for part in parts]
    if len(classes) < 2 or not all(len(names) for names, _ in files):
        unread = f" ({sum(map(len, walk.unread.values()))} other files)" if walk.unread else ""
        raise ExpungeError(
            f"{root} has {len(classes)} class folders with images{unread}; give DIR/CLASS/*.png with two classes or more, "
            "or DIR/train/CLASS and DIR/test/CLASS."
        )
    raise_all(_class_problems(root, parts, folders, files[0][1], len(known)))
    for group in alike(classes):
        warnings.warn(
            f"{root}: the class folders {group} differ only in spaces, case or the way they are written; join them if they are one "
            "class.",
            stacklevel=4,
        )
    _list_outside(root, parts, walk)
    warn_unread(encodable(str(root)), walk.unread, sum(len(names) for names, _ in files))
    if len(files) == 1:
        held = held_out(files[0][1], len(classes))
        files = [(names[which], labels[which]) for names, labels in files for which in (~held, held)]
    train, test = (
        image_data(
            ImageFolder(root, names, labels, resize, walk.renamed),
            classes,
            encodable(root.name),
            names,
            {"folder": _folder_names(names)},
            workers,
        )
        for names, labels in files
    )
    return train, test, classes


def class_names(root: Path) -> list[str]:
    """Return the class names of a folder of images, from the names of its sub-folders. Raises `ExpungeError`."""
    return [encodable(c) for c in _class_folders(root / _parts(root)[0])]


def _class_problems(
    root: Path, parts: list[str], classes: list[str], labels: np.ndarray, known: int
) -> list[str]:
    """One sentence per class that only the test part has, and per class without training images. The first ones are `known`."""
    empty = np.flatnonzero(np.bincount(labels, minlength=len(classes)) == 0)
    only_in_test = [c for part in parts[1:] for c in _class_folders(root / part) if c not in classes]
    return [
        f"{root / parts[-1] / c} is a class that {root / parts[0]} does not have; add it there, or remove it."
        for c in only_in_test
    ] + [
        f"{root / parts[0] / classes[k]} has no images; add images, or remove the folder."
        for k in empty
        if k >= known
    ]


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


def _list_images(root: Path, part: str, folders: list[str], walk: Walk) -> tuple[np.ndarray, np.ndarray]:
    """Paths below `root` (N,) and class numbers (N,), class by class, sorted in each class."""
    names = [np.array([], TEXT)]
    for folder in folders:
        if (root / part / folder).is_dir():
            walk_images(root, f"{part}/{folder}" if part else folder, walk)
        names.append(np.array(sorted(walk.images), TEXT))
        walk.images.clear()
    labels = np.repeat(np.arange(len(folders)), [len(n) for n in names[1:]])
    return np.concatenate(names), labels


def _list_outside(root: Path, parts: list[str], walk: Walk) -> None:
    """Add images that lie in no class folder to the files that are not read, and warn of folders beside the parts."""
    for folder in dict.fromkeys(["", *parts]):
        for entry in os.scandir(root / folder):
            is_image = not entry.name.startswith(".") and Path(entry.name).suffix.lower() in IMAGE_SUFFIXES
            if is_image and not entry.is_dir():
                walk.leave_out("in no class folder", f"{folder}/{entry.name}" if folder else entry.name)
    if len(parts) > 1 and (others := sorted(set(_class_folders(root)) - set(parts))):
        warnings.warn(
            f"{root}: the folders {[encodable(o) for o in others]} beside {parts} are not read.",
            stacklevel=5,
        )


def _folder_names(names: np.ndarray) -> np.ndarray:
    """The name of the folder that each image lies in (N,). Chunks keep the Python lists short."""
    chunks = [names[start : start + CHUNK] for start in range(0, len(names), CHUNK)]
    folders = [np.array([n.rpartition("/")[0].rpartition("/")[2] for n in chunk], TEXT) for chunk in chunks]
    return np.concatenate([np.array([], TEXT), *folders])
