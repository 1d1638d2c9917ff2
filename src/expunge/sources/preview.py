"""The number of classes and the shape of an input, without reading the data where the source says them cheaply."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..data.resize import Resize
from .archives import read_headers
from .folders import class_names
from .images import image_resize
from .spec import PATHS, check_spec


@dataclass(frozen=True)
class Preview:
    """What a model must fit.

    Args:
        classes: Number of classes.
        shape: Shape of one input, such as (C, H, W).
    """

    classes: int
    shape: tuple[int, ...]


STANDARD_SETS = {
    "digits": Preview(10, (1, 8, 8)),
    "fashion-mnist": Preview(10, (1, 28, 28)),
    "cifar10": Preview(10, (3, 32, 32)),
}


def preview(spec: str) -> Preview | None:
    """Return the preview of a data spec; None where only `load` can tell, and where the data is broken, which `load` reports.

    Example:
        >>> preview("cifar10:/data/cifar10-jpeg")
        Preview(classes=10, shape=(3, 32, 32))
    """
    source, path, options = check_spec(spec)
    if "classes" in options:
        return None
    if PATHS.get(source) and not Path(path).expanduser().exists():
        return None
    if source in STANDARD_SETS:
        return STANDARD_SETS[source]
    try:
        if source == "npz":
            return _npz(Path(path).expanduser())
        if source == "folder":
            return _folder(Path(path).expanduser(), image_resize(options))
    # `load` reports what is broken.
    except Exception:
        return None
    return None


def _npz(path: Path) -> Preview | None:
    """Read the labels and the header of the inputs of a NumPy archive, but not the inputs."""
    headers = read_headers(path)
    # a model with several named inputs, or labels that are names
    if "x_train" not in headers or any(
        headers[f"y_{part}"][1].kind not in "iu" for part in ("train", "test")
    ):
        return None
    with np.load(path, allow_pickle=False) as archive:
        names = archive["classes"] if "classes" in headers else None
        count = max(int(archive[f"y_{part}"].max()) for part in ("train", "test")) + 1
    return Preview(count if names is None else len(names), tuple(headers["x_train"][0][1:]))


def _folder(root: Path, resize: Resize) -> Preview:
    return Preview(len(class_names(root)), resize.shape)
