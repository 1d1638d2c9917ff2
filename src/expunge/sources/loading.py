"""`load`: read the data that a spec names, and apply the options of the spec."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from ..data.batch import Inputs
from ..data.class_names import check_class_numbers, class_names, pair_problems
from ..data.convert import as_data
from ..data.resize import Resize
from ..data.samples import Data
from ..data.transforms import CropFlip, Normalize, named_inputs_problem
from ..errors import ExpungeError, raise_all
from ..extensions import installed, loaded
from ..imports import call_factory, call_object
from .folders import MEMORY_LIMIT, in_memory, read_folder
from .npz import read_npz
from .source import Source, input_shape, stratified_part
from .spec import ENTRY_POINTS, PATHS, check_spec
from .standard_sets import read_cifar10, read_digits, read_fashion_mnist
from .texts import read_texts

# side of the images of a folder without the options `size` and `crop`
DEFAULT_SIZE = 64


def load(spec: str) -> Source:
    """Read data by its spec.

    A spec is a source, a path and options: `SOURCE:PATH?OPTION=VALUE&OPTION=VALUE`. The sources are `digits`,
    `fashion-mnist:DIR`, `cifar10:DIR`, `folder:DIR`, `text:FILE`, `npz:FILE` and `package.module:factory`. A factory is a
    function without arguments that returns (train, test), each as `as_data` takes it, or a `Source`. An installed package adds a
    source by an entry point in the group `expunge.sources`: `NAME` or `NAME:PATH` calls its function with whichever of `path`
    and `spec` it takes.

    Options of every source:

    - `limit=N`, `test_limit=N`: a stratified part of the training or test set, N samples. `seed=N` draws it (default 0).
    - `augment=1` shifts and flips training images, `augment=crop` only shifts them, `augment=0` does neither.
    - `mean=A,B,C&std=A,B,C` normalises images, with one number per channel.

    Options of `folder`: `size`, `crop`, `channels`, `hold`, `workers` and `check`. Options of `text`: `tokenizer`, `length`,
    `text`, `label`, `id` and `test`. The page docs/data.md describes them.

    Args:
        spec: The data spec.

    Returns:
        Training data, test data, class names, the shape of an input and a name.

    Raises:
        ExpungeError: The spec is wrong, or files are missing or broken.

    Example:
        >>> source = load("folder:pictures?size=64&limit=1000")
        >>> split = Split.by_class(source.train, source.test, "cat")
    """
    source_name, path, options = check_spec(spec)
    if source_name in READERS:
        if (path_kind := PATHS[source_name]) and not path:
            raise ExpungeError(f"'{spec}' names no {path_kind.lower()}; write {source_name}:{path_kind}.")
        source = READERS[source_name](Path(path).expanduser(), options)
    elif point := installed(ENTRY_POINTS).get(source_name):
        arguments = {"spec": spec, **({"path": path} if path else {})}
        source = _as_source(call_factory(loaded(point), source_name, arguments, ExpungeError), source_name)
    else:
        factory = f"{source_name}:{path}"
        source = _as_source(call_object(factory, {}, ExpungeError), factory)
    return _with_options(source, options, is_folder=source_name == "folder")


def _with_options(source: Source, options: dict[str, str], is_folder: bool) -> Source:
    """Apply the options that all sources have, and decode the images of a folder."""
    train, test, name = source.train, source.test, source.name
    seed = int(options.get("seed", 0))
    if "limit" in options:
        train = stratified_part(train, "training", int(options["limit"]), seed)
        name += f", {len(train)} training samples"
    if "test_limit" in options:
        test = stratified_part(test, "test", int(options["test_limit"]), seed)
        name += f", {len(test)} test samples"
    # After the limits: images that are left out are not decoded.
    if is_folder and _holds_images(options, len(train) + len(test), source.shape):
        train, test = in_memory(train, test)  # type: ignore[arg-type]
    if "augment" in options:
        train, suffix = _augmented(train, options["augment"], source.shape)
        name += suffix
    if "mean" in options:
        train, test = (_normalized(d, options, source.shape) for d in (train, test))
        name += f", mean {options['mean']}, std {options['std']}"
    return replace(source, train=train, test=test, name=name)


def _holds_images(options: dict[str, str], count: int, shape: tuple[int, ...]) -> bool:
    """Whether all images of a folder are decoded now: if the options say so, or if they fit."""
    if "hold" in options:
        return options["hold"] == "1"
    return "workers" not in options and count * math.prod(shape) <= MEMORY_LIMIT


def _augmented(data: Data, option: str, shape: tuple[int, ...]) -> tuple[Data, str]:
    """The data with the augmentation of the option, and the suffix of its name. No suffix if nothing changes."""
    if option == "0":
        augment = None
    elif len(shape) == 3:
        # An eighth of the side is the usual shift on CIFAR-10: 4 pixels of 32.
        augment = CropFlip(max(1, shape[-1] // 8), flip=option == "1")
    else:
        raise ExpungeError(
            f"augment={option} shifts images (C, H, W), but an input has the shape {tuple(shape)}; leave it out."
        )
    if data.augment == augment:
        return data, ""
    if augment is not None and isinstance(x := _first_input(data), dict):
        raise ExpungeError(named_inputs_problem(x))
    # A copy: a user's function may return the same object again.
    changed = copy.copy(data)
    changed.augment = augment
    return changed, {"0": ", not augmented", "1": ", shifted and flipped", "crop": ", shifted"}[option]


def _normalized(data: Data, options: dict[str, str], shape: tuple[int, ...]) -> Data:
    """The data with the normalisation of the options `mean` and `std`."""
    mean, std = (tuple(map(float, options[k].split(","))) for k in ("mean", "std"))
    named = isinstance(_first_input(data), dict)
    if named or len(shape) < 3 or len(mean) != shape[0]:
        raise ExpungeError(
            f"mean and std have {len(mean)} numbers and an input has the shape {tuple(shape)}"
            + (", one of several named inputs" if named else "")
            + "; give one number per channel, and only for images."
        )
    changed = copy.copy(data)
    changed.normalize = Normalize(mean, std)
    return changed


def _first_input(data: Data) -> Inputs:
    """The input of the first sample, as a batch of one."""
    return next(iter(data.samples(torch.arange(1)).batches(1))).x


def folder_resize(options: dict[str, str]) -> Resize:
    """Return how the options of a folder resize its images. Raises `ExpungeError`."""
    crop = int(options["crop"]) if "crop" in options else None
    size, channels = int(options.get("size", crop or DEFAULT_SIZE)), int(options.get("channels", 3))
    resize = Resize(size, crop, channels, options.get("interpolation", "bicubic"))
    if crop is not None and crop > resize.size:
        raise ExpungeError(
            f"crop={crop} is more than size={resize.size}, the short side that it is cut from; give size={crop} or more."
        )
    return resize


def _read_folder(folder: Path, options: dict[str, str]) -> Source:
    resize = folder_resize(options)
    workers, check = int(options.get("workers", 0)), options.get("check") != "0"
    train, test, classes = read_folder(folder, resize, workers=workers, check=check)
    return Source(train, test, classes, resize.shape, folder.name)


def _as_source(result: Any, spec: str) -> Source:
    """The data that a function of the user returned. `spec` names it."""
    if isinstance(result, Source):
        return result
    if not isinstance(result, tuple) or len(result) != 2:
        raise ExpungeError(f"{spec} returned {type(result).__name__}; return (train, test) or a Source.")
    train, test = as_data(result[0]), as_data(result[1])
    raise_all(
        [
            f"{spec}: the {name} set is empty; return at least one sample."
            for name, data in (("training", train), ("test", test))
            if not len(data)
        ]
    )
    raise_all([f"{spec}: {problem}" for problem in pair_problems(train, test)], ExpungeError)
    check_class_numbers(train)
    return Source(train, test, class_names(train), input_shape(train), spec.rpartition(":")[2])


READERS: dict[str, Callable[[Path, dict[str, str]], Source]] = {
    "digits": read_digits,
    "fashion-mnist": read_fashion_mnist,
    "cifar10": read_cifar10,
    "folder": _read_folder,
    "text": read_texts,
    "npz": read_npz,
}
