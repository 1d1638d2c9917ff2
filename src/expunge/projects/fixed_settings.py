"""The settings that the first request of a project fixes, and how they differ from those of today."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Protocol

from ..data.samples import Data
from ..errors import ExpungeError
from ..models import adapters
from ..models.pretrained import FOLDERS
from ..sources.spec import check_spec
from .places import SETTINGS
from .sample_changes import Compared

# Options of a data spec that name columns, with their defaults.
_COLUMNS = {"text": "text", "label": "label", "id": "id"}
# which sample an id names, and which class
IDENTITY = ("id", "label")
REMEDY = "or begin a new project with `expunge init` and the latest model"


class Fixed(Protocol):
    """The settings that the first request fixes: entries of `ProjectSettings`."""

    data: str
    model: str
    ema: str | None
    validation: float
    validation_from: Literal["train", "test"]
    split_seed: int


def setting_problems(drawn: Mapping[str, Any], settings: Fixed) -> list[str]:
    """Return which settings differ from what the first request fixed, one sentence each, as far as no data is needed."""
    return _drawn_problems(drawn, settings) + differences(drawn.get("inputs") or {}, setting_values(settings))


def setting_values(settings: Fixed) -> dict[str, str]:
    """Return {key: value} of the settings that decide what the model sees."""
    name, _, options = check_spec(settings.data)
    values = {"model": settings.model, "ema": settings.ema or ""}
    if name == "text":
        values |= {key: options.get(key, default) for key, default in _COLUMNS.items()}
        values["tokenizer"] = options.get("tokenizer", "")
    kind, _, directory = settings.model.partition(":")
    configs = {**dict.fromkeys(FOLDERS, "config.json"), adapters.KIND: adapters.CONFIG}
    if kind in configs:
        place = Path(directory.partition("?")[0]).expanduser() / configs[kind]
        values[f"{configs[kind]} of the model"] = _file_hash(place)
    return values


def input_values(data: Data) -> dict[str, str]:
    """Return {key: value} of the effective preprocessing: also of defaults, and of data from a user's function."""
    pairs = [part.partition("=") for part in data.input_options.split("&") if part]
    values = {key: value for key, _, value in pairs}
    return {key: values.get(key, "") for key in (*_IMAGES, *sorted(set(values) - set(_IMAGES)))}


_IMAGES = ("size", "crop", "channels", "length", "mean", "std")
# These name places. A folder may move, as long as the samples stay the same.
_PLACES = ("tokenizer",)


def differences(old: Mapping[str, str], new: Mapping[str, str]) -> list[str]:
    """Return which fixed values have changed, one sentence each."""
    return [
        f"{SETTINGS}: {key} is {_shown(new[key])}, and the requests of this project were drawn with {_shown(old[key])}; "
        f"{_undo(key, old[key])}, {REMEDY}."
        for key in old
        if key in new and key not in _PLACES and new[key] != old[key]
    ]


def _undo(key: str, value: str) -> str:
    if key in ("model", "ema"):
        return f"write {key} = {json.dumps(value)}" if value else f"remove {key}"
    if " " in key:
        return "restore the file"
    return f"give the option {key}={value} in `data`" if value else f"remove the option {key} from `data`"


def _shown(value: str) -> str:
    return repr(value) if value else "not given"


def moved_files(old: Mapping[str, str], new: Mapping[str, str]) -> list[str]:
    """Return which places have changed: they explain other contents."""
    return [
        f"the {key} was {_shown(old[key])} at the first request, and is {_shown(new.get(key, ''))} now; give the old one."
        for key in _PLACES
        if key in old and old[key] != new.get(key, "")
    ]


def _drawn_problems(drawn: Mapping[str, Any], settings: Fixed) -> list[str]:
    """Return which settings differ from those that earlier requests were drawn with, one sentence each."""
    # projects of earlier versions drew from the training set
    known = {"validation_from": "train", **drawn} if "validation" in drawn else {}
    return [
        f"{SETTINGS}: {name} is {getattr(settings, name)}, and the requests of this project were drawn with {known[name]}; write "
        f"{name} = {json.dumps(known[name])}, {REMEDY}."
        for name in ("validation", "validation_from", "split_seed")
        if name in known and getattr(settings, name) != known[name]
    ]


def what_compares(old: Mapping[str, str], new: Mapping[str, str]) -> Compared:
    """Return what of the samples is the same under two preprocessings."""
    changed = {key for key in old.keys() | new.keys() if old.get(key, "") != new.get(key, "")}
    # keys with a space name files of the model
    changed = {key for key in changed - {"model", "ema", *IDENTITY} if " " not in key}
    if not changed:
        return "contents"
    return "labels" if "text" in changed else "texts"


def _file_hash(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    except OSError as error:
        raise ExpungeError(f"{path} cannot be read: {error.strerror}; give a folder with it.") from error
