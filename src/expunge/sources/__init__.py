"""Data by name: the sets that ship or are common, folders of images, NumPy files, and the user's own functions."""

from __future__ import annotations

import copy
import math
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from ..data.batch import CropFlip, Inputs, Normalize, several
from ..data.resize import Fit
from ..data.samples import Data
from ..data.tensors import as_data
from ..errors import ExpungeError, raise_all
from ..models import called
from . import formats
from .arrays import npz
from .folders import FITS, in_memory, read_folder
from .known import CIFAR, FASHION, cifar, digits, fashion
from .source import Source, part_of, shape_of
from .texts import KINDS, texts

__all__ = ["CIFAR", "FASHION", "FOLDERS", "Source", "check_spec", "formats", "load", "place_of"]

FOLDERS = {"fashion-mnist": "fashion-mnist", "cifar10": "cifar10-jpeg"}  # as EXPUNGE_DATA holds them


def place_of(data: str) -> str:
    """`data` with the folder that EXPUNGE_DATA names, for the two data sets that need one and came without."""
    kind, _, rest = data.partition("?")
    if kind not in FOLDERS:
        return data
    root = os.environ.get("EXPUNGE_DATA")
    if not root:
        raise ExpungeError(
            f"where is {kind}? Write --data {kind}:FOLDER, or set EXPUNGE_DATA to a folder that holds {FOLDERS[kind]}."
        )
    return f"{kind}:{Path(root) / FOLDERS[kind]}" + (f"?{rest}" if rest else "")


def load(spec: str) -> Source:
    """Data by its spec: `digits`, `fashion-mnist:DIR`, `cifar10:DIR`, `folder:DIR`, `text:FILE`, `npz:FILE` or
    `package.module:factory`.

    Options follow a `?` and are joined by `&`: `limit=N` takes a stratified part of the training set and `test_limit=N` of
    the test set (drawn by `seed=0`), `augment=0` trains on the images as they are, `augment=1` on shifted and flipped ones and
    `augment=crop` on shifted ones, `mean=A,B,C&std=A,B,C` normalises them, a number a channel, for models that do not do so
    inside. Of a folder, `size=64` resizes the images, `size=256&crop=224` only their short side, to keep the middle,
    `channels=1` makes them grey, `hold=1` decodes all of them now and `hold=0` each when it is asked for (if nothing is said:
    now, where they take at most 1 GiB), then `workers=8` does so in processes of its own, and `check=0` trusts that they can
    be read. Of texts see `texts.texts`. Raises `ExpungeError` saying what is missing or broken.
    """
    kind, where, options = check_spec(spec)
    if kind in READERS:
        if kind != "digits" and not where:
            raise ExpungeError(
                f"'{spec}' names no place; write {kind}:{'FILE' if kind in ('npz', 'text') else 'FOLDER'}."
            )
        source = READERS[kind](Path(where).expanduser(), options)
    else:
        source = _from_factory(f"{kind}:{where}")
    seed = int(options.get("seed", 0))
    train, test, name = source.train, source.test, source.name
    if "limit" in options:
        train = part_of(train, "training", int(options["limit"]), seed)
        name += f", {len(train)} training samples"
    if "test_limit" in options:
        test = part_of(test, "test", int(options["test_limit"]), seed)
        name += f", {len(test)} test samples"
    if kind == "folder" and _held(options, len(train) + len(test), source.shape):
        train, test = in_memory(train, test)  # type: ignore[arg-type]
    if "augment" in options:
        train, said = _augmented(train, options["augment"], source.shape)
        name += said
    if "mean" in options:
        train, test = (_normalized(d, options, source.shape) for d in (train, test))
        name += f", mean {options['mean']}, std {options['std']}"
    return replace(source, train=train, test=test, name=name)


def check_spec(spec: str) -> tuple[str, str, dict[str, str]]:
    """The kind, the place and the options of a data spec. Raises `ExpungeError` for what no spec says, before any is read."""
    place, _, query = spec.partition("?")
    pairs = [part.partition("=")[::2] for part in query.split("&") if part]
    options = dict(pairs)
    if len(options) < len(pairs):
        raise ExpungeError(f"'{spec}' gives an option twice; give each once.")
    kind, _, where = place.partition(":")
    if kind not in READERS and Path(place).suffix in KINDS:
        raise ExpungeError(f"there is no data '{spec}'; a table of labelled texts is text:{where or kind}.")
    if kind not in READERS and not where:
        raise ExpungeError(
            f"there is no data '{spec}'; known: {', '.join(READERS)} (with :PLACE), or package.module:factory."
        )
    _check_options(kind, options)
    return kind, where, options


def _held(options: dict[str, str], count: int, shape: tuple[int, ...]) -> bool:
    """Whether the images of a folder are decoded once: as the options say, or where they fit."""
    if "hold" in options:
        return options["hold"] == "1"
    return "workers" not in options and count * math.prod(shape) <= FITS


def _augmented(data: Data, how: str, shape: tuple[int, ...]) -> tuple[Data, str]:
    """The same data, augmented as the option says, and what a name says of it: nothing where it was so already."""
    if how == "0":
        wanted = None
    elif len(shape) == 3:
        wanted = CropFlip(max(1, shape[-1] // 8), flip=how == "1")  # CIFAR-10's usual 4 pixels of 32
    else:
        raise ExpungeError(
            f"augment={how} shifts images (C, H, W), and an input has the shape {tuple(shape)}; leave it out."
        )
    if data.augment == wanted:
        return data, ""
    if wanted is not None and isinstance(x := _first(data), dict):
        raise ExpungeError(several(x))
    found = copy.copy(data)  # a function of the user's may hand out the same data again
    found.augment = wanted
    return found, {"0": ", not augmented", "1": ", shifted and flipped", "crop": ", shifted"}[how]


def _normalized(data: Data, options: dict[str, str], shape: tuple[int, ...]) -> Data:
    """The same data, normalised by the options `mean` and `std`."""
    mean, std = (tuple(map(float, options[k].split(","))) for k in ("mean", "std"))
    named = isinstance(_first(data), dict)
    if named or len(shape) < 3 or len(mean) != shape[0]:
        raise ExpungeError(
            f"mean and std have {len(mean)} numbers and an input the shape {tuple(shape)}"
            + (", one of several by name" if named else "")
            + "; give one a channel, of images."
        )
    found = copy.copy(data)
    found.normalize = Normalize(mean, std)
    return found


def _first(data: Data) -> Inputs:
    """The input of the first sample, as a batch of one."""
    return next(iter(data.samples(torch.arange(1)).batches(1))).x


def _check_options(kind: str, options: dict[str, str]) -> None:
    of_folders, of_texts = kind == "folder", kind == "text"
    least = {"limit": 1, "test_limit": 1, "seed": 0} | (
        {"size": 1, "crop": 1, "workers": 0} if of_folders else {"length": 1} if of_texts else {}
    )
    named = ("tokenizer", "text", "label", "id", "test") if of_texts else ()
    choices = {"augment": ("0", "1", "crop")} | (
        {"channels": ("1", "3"), "check": ("0", "1"), "hold": ("0", "1")} if of_folders else {}
    )
    known = (*least, *choices, *named, "mean", "std")
    problems = [
        f"'{k}' is no option of {kind}; known: {', '.join(sorted(known))}." for k in options if k not in known
    ]
    problems += [
        f"{k}={v} is no whole number of {least[k]} or more."
        for k, v in options.items()
        if k in least and not (v.isascii() and v.isdigit() and int(v) >= least[k])
    ]
    problems += [
        f"{k}={options[k]} is unknown; {k} is {' or '.join(allowed)}."
        for k, allowed in choices.items()
        if k in options and options[k] not in allowed
    ]
    problems += [f"{k}= names nothing; write a name behind it." for k in named if options.get(k) == ""]
    if options.get("hold") == "1" and "workers" in options:
        problems.append("hold=1 decodes all images at once and leaves nothing to workers; give one of them.")
    problems += [
        f"{k}={options[k]} is no list of numbers; write it as {k}=0.5,0.5,0.5."
        for k in ("mean", "std")
        if k in options and not all(map(_number, options[k].split(",")))
    ]
    if len({"mean", "std"} & set(options)) == 1:
        problems.append("mean and std belong together; give both, a number a channel.")
    raise_all(problems, ExpungeError)


def _number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _folder(folder: Path, options: dict[str, str]) -> Source:
    crop = int(options["crop"]) if "crop" in options else None
    fit = Fit(int(options.get("size", crop or 64)), crop, int(options.get("channels", 3)))
    if crop is not None and crop > fit.size:
        raise ExpungeError(
            f"crop={crop} is more than size={fit.size}, to which the short side is resized before; give size={crop} or more."
        )
    workers, check = int(options.get("workers", 0)), options.get("check") != "0"
    train, test, classes = read_folder(folder, fit, workers=workers, check=check)
    return Source(train, test, classes, fit.shape, folder.name)


def _from_factory(spec: str) -> Source:
    made = called(spec, {}, ExpungeError)
    if isinstance(made, Source):
        return made
    if not isinstance(made, tuple) or len(made) != 2:
        raise ExpungeError(
            f"{spec} returned {type(made).__name__}; a data factory returns (train, test) or a Source."
        )
    train, test = as_data(made[0]), as_data(made[1])
    raise_all([f"{spec}: the {n} set is empty." for n, d in (("train", train), ("test", test)) if not len(d)])
    classes = [str(c) for c in (train.classes or range(int(train.labels.max()) + 1))]
    return Source(train, test, classes, shape_of(train), spec.rpartition(":")[2])


READERS: dict[str, Callable[[Path, dict[str, str]], Source]] = {
    "digits": digits,
    "fashion-mnist": fashion,
    "cifar10": cifar,
    "folder": _folder,
    "text": texts,
    "npz": npz,
}
