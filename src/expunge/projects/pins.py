"""What the first request of a project fixed: model, preprocessing, division of the data, and every sample."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from ..data.samples import Data
from ..errors import ExpungeError, raise_all
from ..models import adapters
from ..models.pretrained import FOLDERS
from ..sources.source import Source
from ..sources.spec import check_spec
from .division import divided_as
from .fingerprints import Fingerprints, sample_problems
from .folder import SAMPLES, SETTINGS, Folder, sha256
from .recognised import check_recognised

# Options of a data spec that name columns, with their defaults.
_COLUMNS = {"text": "text", "label": "label", "id": "id"}
# which sample an id names, and which class
_IDENTITY = ("id", "label")
_REMEDY = "or begin a new project with `expunge init` and the latest model"


class Fixed(Protocol):
    """The settings that the first request fixes: entries of `ProjectSettings`."""

    data: str
    model: str
    ema: str | None
    validation: float
    validation_from: Literal["train", "test"]
    split_seed: int


class OtherInputs(ExpungeError):
    """Settings or preprocessing are not those of the first request."""


def run_was_made(state: Mapping[str, Any]) -> bool:
    """Return whether the model of a project has answered a request. Until then, only samples and classes are fixed."""
    return len(state["models"]) > 1 or bool(state["models"][0].get("requests"))


@dataclass(frozen=True, eq=False)
class Pins:
    """Hold what a project fixes.

    Args:
        values: {key: value} of what decides what the model sees.
        fingerprints: Those of all samples that the project has known.
        current: Those of today's data.
        is_new: Whether they must be written with the next change.
    """

    values: dict[str, str]
    fingerprints: Fingerprints
    current: Fingerprints
    is_new: bool

    def write(self, work: Path) -> dict[str, Any]:
        """Write the fingerprints into the hidden folder of a change if they are new, and return entries of `drawn`."""
        if not self.is_new:
            return {"inputs": self.values}
        self.fingerprints.save(work / SAMPLES)
        return {"inputs": self.values, "samples": sha256(work / SAMPLES)}


def pinned(
    folder: Folder,
    state: Mapping[str, Any],
    settings: Fixed,
    read: Callable[[Sequence[str]], Source],
    requests: Callable[[], Mapping[str, int]],
    named: Callable[[], Collection[str]],
    say: Callable[[str], None],
) -> tuple[Source, Pins]:
    """Read the data, and check it and the settings against what the first request fixed.

    Args:
        folder: The project.
        state: Its state.
        settings: Its settings.
        read: Reads the data. It gets the names of the classes, which keep their numbers. Settings that need no data are
            checked before.
        requests: Returns {id: number of the request that named or removed this sample}.
        named: Returns the ids of all such samples, also of requests that have no number here.
        say: Gets a sentence if ids may have been renamed.

    Returns:
        The data, in the division of the first request, and what is fixed.

    Raises:
        ExpungeError: A setting or a sample has changed. All are listed with the old and the new value.
    """
    drawn = state.get("drawn") or {}
    old = drawn.get("inputs") or {}
    values = _setting_values(settings)
    # another column may give an id to another sample
    raise_all(_differences({key: old[key] for key in _IDENTITY if key in old}, values))
    raise_all(setting_problems(drawn, settings), OtherInputs)
    source = read(drawn.get("classes", ()))
    values |= _input_values(source.train)
    raise_all(_class_problems(drawn, source))
    raise_all(_differences(old, values), OtherInputs)
    if not drawn.get("samples"):
        # the first request, or a project of an earlier version
        current = Fingerprints.of(source)
        return source, Pins(values, current, current, is_new=True)
    known = Fingerprints.load(folder.find(SAMPLES, dict(state)))
    source, current = divided_as(known, source)
    _in_settings(lambda: check_recognised(known, current, source, named, say))
    if sample_problems(known, current, source, {}):
        problems = sample_problems(known, current, source, requests())
        raise_all([f"{SETTINGS}: data: {text}" for text in problems + _moved_files(old, values)])
    extended = known.extended(current)
    return source, Pins({**old, **values}, extended, current, is_new=extended.has_more_than(known))


def _in_settings(check: Callable[[], object]) -> None:
    """Run a check of the data. Its problems name the file that names the data."""
    try:
        check()
    except ExpungeError as error:
        raise ExpungeError([f"{SETTINGS}: data: {text}" for text in error.problems]) from error


def replaced_before_first_run(
    state: dict[str, Any], read: Callable[[], tuple[Source, Pins]], say: Callable[[str], None]
) -> tuple[Source, Pins]:
    """Return what `read` returns. Until a run is made, new settings replace those of the first request in `state`."""
    try:
        return read()
    except OtherInputs as error:
        if run_was_made(state):
            raise
        changed = [text.removeprefix(f"{SETTINGS}: ").partition(";")[0] for text in error.problems]
        say(f"no run was made yet, so requests that wait now use {SETTINGS} as it is: {'; '.join(changed)}.")
        # the outputs of the model have the numbers of these classes
        state["drawn"] = {"classes": state["drawn"]["classes"]}
        return read()


def setting_problems(drawn: Mapping[str, Any], settings: Fixed) -> list[str]:
    """Return which settings differ from what the first request fixed, one sentence each, as far as no data is needed."""
    return _drawn_problems(drawn, settings) + _differences(
        drawn.get("inputs") or {}, _setting_values(settings)
    )


def _setting_values(settings: Fixed) -> dict[str, str]:
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


def _input_values(data: Data) -> dict[str, str]:
    """Return {key: value} of the effective preprocessing: also of defaults, and of data from a user's function."""
    pairs = [part.partition("=") for part in data.input_options.split("&") if part]
    values = {key: value for key, _, value in pairs}
    return {key: values.get(key, "") for key in (*_IMAGES, *sorted(set(values) - set(_IMAGES)))}


_IMAGES = ("size", "crop", "channels", "length", "mean", "std")
# These name places. A folder may move, as long as the samples stay the same.
_PLACES = ("tokenizer",)


def _differences(old: Mapping[str, str], new: Mapping[str, str]) -> list[str]:
    """Return which fixed values have changed, one sentence each."""
    return [
        f"{SETTINGS}: {key} is {_shown(new[key])}, and the requests of this project were drawn with {_shown(old[key])}; "
        f"{_undo(key, old[key])}, {_REMEDY}."
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


def _moved_files(old: Mapping[str, str], new: Mapping[str, str]) -> list[str]:
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
        f"{name} = {json.dumps(known[name])}, {_REMEDY}."
        for name in ("validation", "validation_from", "split_seed")
        if name in known and getattr(settings, name) != known[name]
    ]


def _class_problems(drawn: Mapping[str, Any], source: Source) -> list[str]:
    if "classes" not in drawn or list(source.classes) == drawn["classes"]:
        return []
    return [
        f"{SETTINGS}: the data has the classes {list(source.classes)}, and the requests of this project were drawn with "
        f"{drawn['classes']}; a class may lose all of its samples, but none may be new or have another name. Give data with "
        f"these classes, {_REMEDY}."
    ]


def _file_hash(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    except OSError as error:
        raise ExpungeError(f"{path} cannot be read: {error.strerror}; give a folder with it.") from error
