"""What the first request of a project fixed: model, preprocessing, division of the data, and every sample."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..errors import ExpungeError, raise_all
from ..sources.source import Source
from .division import divided_as
from .fingerprints import Fingerprints
from .fixed_settings import (
    IDENTITY,
    REMEDY,
    Fixed,
    differences,
    input_values,
    moved_files,
    setting_problems,
    setting_values,
    what_compares,
)
from .folder import SAMPLES, Folder, sha256
from .places import SETTINGS
from .recognised import check_recognised
from .sample_changes import sample_problems

# entry of `drawn`, never in a file: the inputs of the first request, if other settings replace them before the first run
REPLACED = "replaced"


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
    values = setting_values(settings)
    # another column may give an id to another sample
    raise_all(differences({key: old[key] for key in IDENTITY if key in old}, values))
    raise_all(setting_problems(drawn, settings), OtherInputs)
    source = read(drawn.get("classes", ()))
    values |= input_values(source.train)
    raise_all(_class_problems(drawn, source))
    raise_all(differences(old, values), OtherInputs)
    if not drawn.get("samples"):
        # the first request, or a project of an earlier version
        current = Fingerprints.of(source)
        return source, Pins(values, current, current, is_new=True)
    known = Fingerprints.load(folder.find(SAMPLES, dict(state)))
    source, current = divided_as(known, source)
    _in_settings(lambda: check_recognised(known, current, source, named, say))
    compared = what_compares(drawn.get(REPLACED, values), values)
    if sample_problems(known, current, source, {}, compared):
        problems = sample_problems(known, current, source, requests(), compared)
        raise_all([f"{SETTINGS}: data: {text}" for text in problems + moved_files(old, values)])
    extended = known.extended(current)
    if compared != "contents":
        # the hashes of other inputs are of no use any more
        extended = replace(current, labels=extended.labels)
    is_new = REPLACED in drawn or extended.has_more_than(known)
    return source, Pins({**old, **values}, extended, current, is_new=is_new)


def _in_settings(check: Callable[[], object]) -> None:
    """Run a check of the data. Its problems name the file that names the data."""
    try:
        check()
    except ExpungeError as error:
        raise ExpungeError([f"{SETTINGS}: data: {text}" for text in error.problems]) from error


def replaced_before_first_run(
    state: dict[str, Any], read: Callable[[], tuple[Source, Pins]], say: Callable[[str], None]
) -> tuple[Source, Pins]:
    """Return what `read` returns. Until a run is made, new settings replace those of the first request in `state`.

    The samples stay those of the first request: an id must name the same one under the new settings.
    """
    try:
        return read()
    except OtherInputs as error:
        if run_was_made(state):
            raise
        changed = [text.removeprefix(f"{SETTINGS}: ").partition(";")[0] for text in error.problems]
        say(f"no run was made yet, so requests that wait now use {SETTINGS} as it is: {'; '.join(changed)}.")
        drawn = state["drawn"]
        # the outputs of the model have the numbers of these classes
        kept = {key: drawn[key] for key in ("classes", "samples") if drawn.get(key)}
        state["drawn"] = {**kept, REPLACED: drawn.get("inputs") or {}}
        return read()


def _class_problems(drawn: Mapping[str, Any], source: Source) -> list[str]:
    if "classes" not in drawn or list(source.classes) == drawn["classes"]:
        return []
    return [
        f"{SETTINGS}: the data has the classes {list(source.classes)}, and the requests of this project were drawn with "
        f"{drawn['classes']}; a class may lose all of its samples, but none may be new or have another name. Give data with "
        f"these classes, {REMEDY}."
    ]
