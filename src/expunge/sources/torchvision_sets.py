"""Data sets of torchvision by name, from files that are there already."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..data.class_names import class_names
from ..data.resize import Resize
from ..data.stream import StreamData
from ..errors import ExpungeError, MissingExtra
from .images import DecodedImages, image_data, image_resize
from .source import Source, held_out

# how constructors name their parts: (argument, value for training, values for testing)
PARTS: tuple[tuple[str, Any, tuple[Any, ...]], ...] = (
    ("train", True, (False,)),
    ("split", "train", ("test", "val", "valid")),
)


class TorchvisionImages(DecodedImages):
    """The images of a data set of torchvision without a transform.

    Args:
        dataset: The data set. Its items are (PIL image, label).
        positions: Items (N,).
        labels: Class numbers (N,).
        resize: Makes all images one size.
        name: Name for messages.
    """

    def __init__(self, dataset: Any, positions: np.ndarray, labels: np.ndarray, resize: Resize, name: str):
        super().__init__(labels, resize)
        self.dataset, self.positions, self.name = dataset, positions, name

    def open(self, index: int) -> Any:
        return self.dataset[int(self.positions[index])][0]

    def place(self, index: int) -> str:
        return f"{self.name}: item {int(self.positions[index])}"


def read_torchvision(path: Path, options: dict[str, str]) -> Source:
    """Read a data set of torchvision. Nothing is downloaded.

    The id of a sample is its position in the training set, or its path below `root` for data sets of image files.

    Args:
        path: Name of the class, such as `CIFAR10`.
        options: Options of the data spec: those of images, and

            - `root`: the folder of the files.
            - `split`, `test_split`: the values of the argument `split`, for classes that have one. Default: "train", and the first of
              "test", "val" and "valid" that the class takes.

    Raises:
        MissingExtra: torchvision is not installed.
        ExpungeError: torchvision has no such data set, or it cannot be read.
    """
    resize, name = image_resize(options), str(path)
    parts = _parts(name, options)
    streams = [StreamData(part) for part in parts]
    for data in streams:
        if not data.has_classes:
            raise ExpungeError(
                f"torchvision:{name} has labels of shape {tuple(data.labels.shape)} and type {data.labels.dtype}; give a data set with "
                "one class per image, or write a function of your own."
            )
    classes = class_names(streams[0])
    labels = [data.labels.numpy() for data in streams]
    if len(parts) == 1:
        held = held_out(labels[0], len(classes))
        chosen = [(0, np.flatnonzero(~held)), (0, np.flatnonzero(held))]
    else:
        chosen = [(k, np.arange(len(y))) for k, y in enumerate(labels)]
    train, test = (
        image_data(
            TorchvisionImages(parts[k], at, labels[k][at], resize, f"torchvision:{name}"),
            classes,
            name,
            _ids(parts[k], at, options.get("root", ""), k == 0),
            {},
            int(options.get("workers", 0)),
        )
        for k, at in chosen
    )
    return Source(train, test, classes, resize.shape, name)


def _parts(name: str, options: dict[str, str]) -> list[Any]:
    """The training and, if the class has one, the test set."""
    try:
        from torchvision import datasets
    except ImportError as error:
        raise MissingExtra("reading data sets of torchvision", "vision") from error
    make = getattr(datasets, name, None)
    if not inspect.isclass(make):
        known = sorted(k for k, v in vars(datasets).items() if inspect.isclass(v))
        raise ExpungeError(f"torchvision has no data set '{name}'; known: {', '.join(known)}.")
    parameters = inspect.signature(make).parameters
    fixed: dict[str, Any] = {"root": options["root"]} if "root" in options else {}
    fixed |= {"download": False} if "download" in parameters else {}
    for argument, training, testing in PARTS:
        if argument in parameters:
            if argument == "split":
                training = options.get("split", training)
                testing = (options["test_split"],) if "test_split" in options else testing
            return [
                _made(make, name, [{**fixed, argument: v} for v in values])
                for values in ((training,), testing)
            ]
    return [_made(make, name, [fixed])]


def _made(make: Any, name: str, choices: Sequence[dict[str, Any]]) -> Any:
    """The data set with the first arguments that the class takes."""
    for arguments in choices:
        try:
            return make(**arguments)
        # torchvision raises many types of errors.
        except Exception as error:
            # a value of `split` that the class does not know: try the next
            if isinstance(error, ValueError) and arguments is not choices[-1]:
                continue
            given = ", ".join(f"{k}={v!r}" for k, v in arguments.items())
            raise ExpungeError(
                f"torchvision.datasets.{name}({given}) failed: {type(error).__name__}: {str(error)[:200]}; give root=FOLDER with its "
                f"files. To download them once, call it in Python with download=True."
            ) from error
    raise AssertionError("there is at least one choice")


def _ids(dataset: Any, positions: np.ndarray, root: str, training: bool) -> list[str] | None:
    """Paths below `root` of a data set of image files, else positions. None for test samples with positions of their own."""
    samples = getattr(dataset, "samples", None)
    if (
        isinstance(samples, list)
        and samples
        and isinstance(samples[0], tuple)
        and isinstance(samples[0][0], str)
    ):
        base = Path(root).resolve()
        paths = [Path(samples[k][0]).resolve() for k in positions.tolist()]
        return [p.relative_to(base).as_posix() if p.is_relative_to(base) else str(p) for p in paths]
    return [str(k) for k in positions.tolist()] if training else None
