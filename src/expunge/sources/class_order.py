"""The order of classes of a model: `id2label` (transformers) or `label_names` (timm) in `config.json`, or a JSON file of names."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..data.class_lists import class_names
from ..data.timm_folder import timm_labels
from ..errors import ExpungeError
from .labels import SHOWN_LABELS, alike, plain
from .source import Source, with_classes

# the name that transformers gives class 0 where nobody chose one
UNNAMED = re.compile(r"LABEL_\d+")


def read_config(folder: Path | None) -> dict[str, Any]:
    """Return the `config.json` of a folder of transformers. Empty if there is none. Raises `ExpungeError` for a broken one."""
    file = None if folder is None else folder / "config.json"
    if file is None or not file.is_file():
        return {}
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ExpungeError(
            f"{file} cannot be read: {type(error).__name__}: {error}; give a folder that save_pretrained wrote."
        ) from error
    return config if isinstance(config, dict) else {}


def model_classes(folder: Path | None) -> list[str]:
    """Return the class names of `config.json` in the order of their numbers. Empty if it does not name the numbers 0 to K - 1.

    Args:
        folder: The folder, or a JSON file with a list of class names or a dict of names and numbers, such as `class_to_idx`.

    Raises:
        ExpungeError: The file is broken, or maps no numbers to names.
    """
    if folder is not None and folder.is_file():
        return _of_file(folder)
    try:
        config = read_config(folder)
        return timm_labels(config) or ordered(config.get("id2label") or {})
    except (AttributeError, TypeError, ValueError) as error:
        raise ExpungeError(
            f"`id2label` in {folder}/config.json does not map class numbers to names: {error}; correct or remove it."
        ) from error


def _of_file(file: Path) -> list[str]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        names = class_names(content) if isinstance(content, list | dict) else []
    except (OSError, ValueError, RecursionError) as error:
        raise ExpungeError(
            f"{file} cannot be read: {type(error).__name__}: {error}; give a JSON file with a list of class names."
        ) from error
    if not names:
        raise ExpungeError(
            f"{file} does not number class names from 0; give a list of at least 2 different names in the order of their numbers, or a "
            "dict of names and numbers."
        )
    return names


def ordered(id2label: Mapping[Any, Any]) -> list[str]:
    """Return the names of `id2label` in the order of their numbers. Empty if it does not name the numbers 0 to K - 1."""
    names = {int(k): str(v) for k, v in id2label.items()}
    return [names[k] for k in range(len(names))] if set(names) == set(range(len(names))) else []


def are_chosen(names: Sequence[str]) -> bool:
    """Whether somebody chose the names: they are not `LABEL_0`, `LABEL_1` and so on."""
    return bool(names) and not all(UNNAMED.fullmatch(name) for name in names)


def spelled_as(labels: Iterable[str], classes: Sequence[str]) -> list[str] | None:
    """Return the class names in their order, each as the labels write it; None if the labels are no such classes.

    Labels may differ from the names in case, spaces and Unicode form, where no two names or labels differ only in these.

    Example:
        >>> spelled_as(["positive"], ["NEGATIVE", "POSITIVE"])
        ['NEGATIVE', 'positive']
    """
    existing = set(labels)
    if existing <= set(classes):
        return list(classes)
    if alike(existing) or alike(classes):
        return None
    spelling = {plain(name): name for name in existing}
    names = [spelling.pop(plain(name), name) for name in classes]
    return None if spelling else names


def in_model_order(source: Source, folder: Path) -> Source:
    """Return data whose classes have the numbers that `config.json` of a folder, or a JSON file, gives them.

    Classes that the data lacks are added without samples. Labels that are numbers stay the numbers of the classes. Where no label is
    a name of the model, the order stays, with a warning.

    Raises:
        ExpungeError: The folder has no class names, or some labels are names of the model and others are not.
    """
    classes = model_classes(folder)
    if not classes:
        raise ExpungeError(
            f"{folder}/config.json names no classes in `id2label` or `label_names`; give classes=PLACE with a folder that "
            "save_pretrained or save_for_hf of timm wrote, or a JSON file with a list of class names."
        )
    if not are_chosen(classes) or source.classes == classes:
        return source
    if all(name.isascii() and name.isdigit() for name in source.classes):
        numbers = [str(k) for k in range(len(classes))]
        return with_classes(source, numbers) if set(source.classes) < set(numbers) else source
    if (order := spelled_as(source.classes, classes)) is not None:
        return with_classes(source, order)
    known = {plain(name) for name in classes}
    unknown = [name for name in source.classes if plain(name) not in known]
    listed = f"{folder if folder.is_file() else f'{folder}/config.json'} names the classes {classes[:SHOWN_LABELS]}"
    if len(unknown) < len(source.classes):
        raise ExpungeError(
            f"{listed}, and the data has the labels {unknown[:SHOWN_LABELS] or source.classes[:SHOWN_LABELS]}; write the labels as the "
            "model names its classes, and each class in one way."
        )
    warnings.warn(
        f"{listed}, and no label of the data is one of them: the labels are numbered in their own order, "
        f"{', '.join(f'{k} = {name}' for k, name in enumerate(source.classes[:SHOWN_LABELS]))}. If the model was trained with another "
        "order, the wrong class is forgotten; write the labels as the model names its classes.",
        stacklevel=3,
    )
    return source
