"""Find the image files below a folder. What is not read is listed with the reason."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from ..data.id_forms import encodable
from ..errors import ExpungeError

# Endings of images that Pillow reads without another program. Each is read if this Pillow was built with its decoder.
IMAGE_SUFFIXES = (
    ".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".dib", ".webp", ".gif", ".ppm", ".pgm", ".pbm", ".pnm", ".tif", ".tiff",
    ".tga", ".jp2", ".avif",
)  # fmt: skip


@dataclass
class Walk:
    """The files below a folder.

    Args:
        images: Paths of the images below the root, with "/".
        renamed: {path in `images`: real path}, of those whose name is no UTF-8.
        unread: {reason: paths} of all other files that are not hidden.
    """

    images: list[str] = field(default_factory=list)
    renamed: dict[str, str] = field(default_factory=dict)
    unread: dict[str, list[str]] = field(default_factory=dict)

    def add(self, path: str) -> None:
        """Add the path of an image."""
        shown = path if path.isascii() else encodable(path)
        if shown != path:
            self.renamed[shown] = path
        self.images.append(shown)

    def leave_out(self, reason: str, path: str) -> None:
        """Add the path of a file that is not read."""
        self.unread.setdefault(reason, []).append(encodable(path))


@cache
def readable_suffixes() -> frozenset[str]:
    """Return the endings of images that this Pillow reads."""
    from PIL import Image

    formats = Image.registered_extensions()
    return frozenset(s for s in IMAGE_SUFFIXES if formats.get(s) in Image.OPEN)


def walk_images(root: Path, folder: str, walk: Walk) -> None:
    """Add all images below `root/folder` to `walk`, also behind links to folders. Hidden files and folders are left out.

    Raises:
        ExpungeError: A folder cannot be opened.
    """
    pending = [(folder, frozenset[tuple[int, int]]())]
    suffixes = readable_suffixes()
    while pending:
        below, above = pending.pop()
        try:
            status = os.stat(root / below)
            if (status.st_dev, status.st_ino) in above:
                walk.leave_out("links to a folder above", below)
                continue
            with os.scandir(root / below) as entries:
                listed = list(entries)
        except OSError as error:
            raise ExpungeError(
                f"{root / below} cannot be opened: {error.strerror}; give a folder that you may read."
            ) from error
        for entry in listed:
            # Hidden files come from other programs: .ipynb_checkpoints, ._picture.png of macOS.
            if entry.name.startswith("."):
                continue
            path = f"{below}/{entry.name}" if below else entry.name
            if entry.is_dir():
                pending.append((path, above | {(status.st_dev, status.st_ino)}))
            else:
                _add_file(walk, path, entry, suffixes)


def _add_file(walk: Walk, path: str, entry: os.DirEntry[str], suffixes: frozenset[str]) -> None:
    suffix = os.path.splitext(entry.name)[1].lower()
    is_image = suffix in suffixes
    # A broken link to an image is an image that is missing, and is refused when it is opened.
    if is_image and (entry.is_file() or entry.is_symlink()):
        walk.add(path)
    elif not entry.is_file() and not entry.is_symlink():
        walk.leave_out("named pipes, sockets or devices", path)
    else:
        walk.leave_out(f"*{encodable(suffix)}" if suffix else "without an ending", path)
