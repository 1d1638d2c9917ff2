"""`load`: read the data that a spec names, and apply the options of the spec."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from ..data.batch import Inputs
from ..data.class_names import check_class_numbers, class_names, pair_problems
from ..data.convert import as_data
from ..data.samples import Data
from ..data.stream import StreamData
from ..data.transforms import CropFlip, Normalize, named_inputs_problem
from ..errors import ExpungeError, raise_all
from ..extensions import installed, loaded
from ..imports import call_factory, call_object
from .class_order import in_model_order
from .folders import read_folder
from .hugging_face import read_hugging_face
from .image_tables import read_image_table
from .images import check_images, image_resize, in_memory
from .npz import read_npz
from .shards import read_shards
from .source import Source, input_shape, stratified_part, with_classes
from .spec import ENTRY_POINTS, IMAGE_SOURCES, PATHS, check_spec
from .standard_sets import read_cifar10, read_digits, read_fashion_mnist
from .texts import read_texts
from .torchvision_sets import read_torchvision

# bytes of decoded images; up to this size they are held in memory by default
MEMORY_LIMIT = 1 << 30


def load(spec: str, known: Sequence[str] = ()) -> Source:
    """Read data by its spec.

    A spec is a source, a path and options: `SOURCE:PATH?OPTION=VALUE&OPTION=VALUE`. The sources are `digits`,
    `fashion-mnist:DIR`, `cifar10:DIR`, `folder:DIR`, `images:FILE`, `text:FILE`, `npz:FILE`, `hf:NAME`, `webdataset:SHARDS`,
    `torchvision:NAME` and `package.module:factory`. A factory is a function without arguments that returns (train, test), each as
    `as_data` takes it, or a `Source`. An installed package adds a source by an entry point in the group `expunge.sources`: `NAME`
    or `NAME:PATH` calls its function with whichever of `path` and `spec` it takes.

    Options of every source:

    - `limit=N`, `test_limit=N`: a stratified part of the training or test set, N samples. `seed=N` draws it (default 0).
    - `augment=1` shifts and flips training images, `augment=crop` only shifts them, `augment=0` does neither.
    - `mean=A,B,C&std=A,B,C` normalises images, with one number per channel.
    - `classes=PLACE` numbers the classes as `config.json` in a folder of transformers or timm does, or a JSON file of class names.

    Options of images: `size`, `crop`, `channels`, `hold`, `workers`, `check` and `exif`. Options of `text`: `tokenizer`, `length`,
    `text`, `label`, `id` and `test`. The page docs/data.md describes them and those of the other sources.

    Args:
        spec: The data spec.
        known: Names of classes that keep their numbers, also without training samples. New classes come behind them.

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
        fixed = {"known": known} if source_name in NUMBERED_BY_LABELS else {}
        source = READERS[source_name](Path(path).expanduser(), options, **fixed)
    elif point := installed(ENTRY_POINTS).get(source_name):
        arguments = {"spec": spec, **({"path": path} if path else {})}
        source = _as_source(call_factory(loaded(point), source_name, arguments, ExpungeError), source_name)
    else:
        factory = f"{source_name}:{path}"
        source = _as_source(call_object(factory, {}, ExpungeError), factory)
    # Images that are decoded later have one size already.
    if source_name not in IMAGE_SOURCES:
        raise_all([f"{spec}: {problem}" for problem in pair_problems(source.train, source.test)])
    # after the first request of a project, its classes keep their numbers
    if "classes" in options and not known:
        source = in_model_order(source, Path(options["classes"]).expanduser())
    return _with_options(with_classes(source, known), options, has_images=source_name in IMAGE_SOURCES)


def _with_options(source: Source, options: dict[str, str], has_images: bool) -> Source:
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
    if has_images and isinstance(train, StreamData) and isinstance(test, StreamData):
        if _holds_images(options, len(train) + len(test), source.shape):
            train, test = in_memory(train, test)
        elif options.get("check") != "0":
            check_images(train, test)
    if "augment" in options:
        train, suffix = _augmented(train, options["augment"], source.shape)
        name += suffix
    if "mean" in options:
        train, test = (_normalized(d, options, source.shape) for d in (train, test))
        name += f", mean {options['mean']}, std {options['std']}"
    for data in (train, test) if source.root or source.row_ids else ():
        data.root, data.row_ids = source.root, source.row_ids
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


def _read_folder(folder: Path, options: dict[str, str], known: Sequence[str] = ()) -> Source:
    resize = image_resize(options)
    train, test, classes = read_folder(folder, resize, workers=int(options.get("workers", 0)), known=known)
    return Source(train, test, classes, resize.shape, train.name, root=str(folder))


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
    check_class_numbers(train)
    return Source(train, test, class_names(train), input_shape(train), spec.rpartition(":")[2])


# sources that number their classes by the labels that occur
NUMBERED_BY_LABELS = ("folder", "images", "text", "npz", "hf", "webdataset")
READERS: dict[str, Callable[..., Source]] = {
    "digits": read_digits,
    "fashion-mnist": read_fashion_mnist,
    "cifar10": read_cifar10,
    "folder": _read_folder,
    "images": read_image_table,
    "text": read_texts,
    "npz": read_npz,
    "hf": read_hugging_face,
    "webdataset": read_shards,
    "torchvision": read_torchvision,
}
