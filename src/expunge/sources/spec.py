"""The text that names data, such as `folder:pictures?size=64`: its parts, and checks that need no data."""

from __future__ import annotations

import math
import os
from pathlib import Path

from ..errors import ExpungeError, raise_all
from ..extensions import installed
from ..secret_text import secret_problem

# what the text after the colon names, for each source; digits come with scikit-learn
PATHS = {
    "digits": None,
    "fashion-mnist": "FOLDER",
    "cifar10": "FOLDER",
    "folder": "FOLDER",
    "images": "FILE",
    "text": "FILE",
    "npz": "FILE",
    "hf": "NAME",
    "webdataset": "SHARDS",
    "torchvision": "NAME",
}
# sources of image files, whose options say how to decode them
IMAGE_SOURCES = ("folder", "images", "hf", "webdataset", "torchvision")
# their options, with the smallest allowed number or the allowed values
IMAGE_MINIMUM = {"size": 1, "crop": 1, "workers": 0}
IMAGE_CHOICES = {
    "channels": ("1", "3"),
    "check": ("0", "1"),
    "hold": ("0", "1"),
    "exif": ("0", "1"),
    "interpolation": ("bicubic", "bilinear"),
}
# options of a source that name something: a column, a file or a folder
NAMED_OPTIONS = {
    "text": ("tokenizer", "text", "label", "id", "test", "length"),
    "images": ("image", "label", "id", "root", "test"),
    "hf": ("split", "test_split", "config", "image", "text", "label", "id", "tokenizer", "length"),
    "webdataset": ("image", "label", "test"),
    "torchvision": ("root", "split", "test_split"),
}
# those that name a file or a folder
PATH_OPTIONS = ("test", "root", "tokenizer", "classes")
# entry points by which installed packages add sources
ENTRY_POINTS = "expunge.sources"
# files that a table of texts may have
TABLE_SUFFIXES = (".csv", ".tsv", ".jsonl", ".parquet")
# folders below EXPUNGE_DATA
DEFAULT_FOLDERS = {"fashion-mnist": "fashion-mnist", "cifar10": "cifar10-jpeg"}


def locate(spec: str) -> str:
    """Add the folder below EXPUNGE_DATA to `fashion-mnist` or `cifar10` without a folder.

    Args:
        spec: A data spec. Any other spec is returned as it is.

    Raises:
        ExpungeError: The folder is needed and the environment variable EXPUNGE_DATA is not set.

    Example:
        >>> locate("cifar10?limit=100")
        'cifar10:/data/cifar10-jpeg?limit=100'
    """
    name, _, query = spec.partition("?")
    if name not in DEFAULT_FOLDERS:
        return spec
    root = os.environ.get("EXPUNGE_DATA")
    if not root:
        raise ExpungeError(
            f"the folder of {name} is not known; write --data {name}:FOLDER, or set EXPUNGE_DATA to a folder that contains "
            f"{DEFAULT_FOLDERS[name]}."
        )
    return f"{name}:{Path(root) / DEFAULT_FOLDERS[name]}" + (f"?{query}" if query else "")


def check_spec(spec: str) -> tuple[str, str, dict[str, str]]:
    """Split a data spec into source, path and options, and check them without reading data.

    Args:
        spec: A data spec, as `load` takes it.

    Returns:
        The source ("folder"), the path ("pictures") and the options ({"size": "64"}). For `package.module:factory` they are
        the module, the function and the options.

    Raises:
        ExpungeError: The source is unknown, options are unknown, repeated or out of range, or the text has a password or token.
    """
    raise_all(list(filter(None, [secret_problem("the text that names the data", spec)])))
    address, _, query = spec.partition("?")
    pairs = [part.partition("=")[::2] for part in query.split("&") if part]
    options = dict(pairs)
    if len(options) < len(pairs):
        raise ExpungeError(f"'{spec}' gives an option twice; give each option once.")
    source, _, path = address.partition(":")
    if source not in PATHS and Path(address).suffix in TABLE_SUFFIXES:
        raise ExpungeError(
            f"there is no data '{spec}'; write text:{path or source} for a table of labelled texts, or images:{path or source} for a "
            "list of image files."
        )
    # 400 in blob:400 cannot be the name of a function, so blob was meant as the short name of a source
    if source not in PATHS and not path.isidentifier() and source not in installed(ENTRY_POINTS):
        known = ", ".join([*PATHS, *sorted(installed(ENTRY_POINTS))])
        raise ExpungeError(
            f"there is no data '{spec}'; known: {known} (with :PATH), or package.module:factory."
        )
    raise_all(_option_problems(source, options), ExpungeError)
    return source, path, options


def _option_problems(source: str, options: dict[str, str]) -> list[str]:
    """One sentence per wrong option of a source."""
    has_images = source in IMAGE_SOURCES
    minimum = {"limit": 1, "test_limit": 1, "seed": 0} | (IMAGE_MINIMUM if has_images else {})
    minimum |= {"length": 1} if "length" in NAMED_OPTIONS.get(source, ()) else {}
    names = tuple(name for name in NAMED_OPTIONS.get(source, ()) if name != "length")
    choices = {"augment": ("0", "1", "crop")} | (IMAGE_CHOICES if has_images else {})
    names = (*names, "classes")
    known = (*minimum, *choices, *names, "mean", "std")
    problems = [
        f"'{k}' is no option of {source}; known options: {', '.join(sorted(known))}."
        for k in options
        if k not in known
    ]
    problems += [
        f"{k}={v} is not allowed; give a whole number of {minimum[k]} or more."
        for k, v in options.items()
        if k in minimum and not (v.isascii() and v.isdigit() and int(v) >= minimum[k])
    ]
    problems += [
        f"{k}={options[k]} is not allowed; give {', '.join(allowed[:-1])} or {allowed[-1]}."
        for k, allowed in choices.items()
        if k in options and options[k] not in allowed
    ]
    problems += [
        f"{k}= has no value; write one after the equals sign." for k in names if options.get(k) == ""
    ]
    if options.get("hold") == "1" and "workers" in options:
        problems.append(
            "hold=1 decodes all images at once, so workers have nothing to do; give one of the two."
        )
    problems += [
        f"{k}={options[k]} is no list of numbers; write it as {k}=0.5,0.5,0.5."
        for k in ("mean", "std")
        if k in options and not all(map(_is_number, options[k].split(",")))
    ]
    if len({"mean", "std"} & set(options)) == 1:
        problems.append("mean and std belong together; give both, with one number per channel.")
    return problems


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False
