"""What a command of a project works with: its state, settings, data and latest model, each checked against the others."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from torch import nn

from ..data.past_requests import PastRequest, remember_requests, requests_of
from ..data.samples import Data
from ..data.split import Split
from ..errors import ExpungeError, raise_all
from ..pipeline.factory import seeded_factory
from ..records.checkpoint import Checkpoint, read_checkpoint
from ..records.checkpoint_loading import load_into
from ..records.checkpoint_metadata import ADVICE, check_original
from ..records.request_file import answered_requests, read_requests
from ..sources.loading import load
from ..sources.source import Source
from ..tasks.classification import Classification
from ..training.run import Compute
from .answered import Setting
from .folder import HELD_OUT, SETTINGS, Folder, request_file, sha256, write_private_json
from .held_out import drawn_ids
from .pins import Pins, pinned
from .requests import ProjectRequest
from .settings import ProjectSettings, read_settings
from .state import request_entries
from .wanted import Wanted

Say = Callable[[str], None]


@dataclass
class Prepared:
    """Hold what a command of a project works with: its state, settings, data and latest model.

    `ledger_head` is the head of the ledger that the command copied; empty without a ledger.
    """

    state: dict[str, Any]
    requests: list[ProjectRequest]
    settings: ProjectSettings
    setting: Setting
    model: nn.Module
    model_file: Path
    pins: Pins
    ledger_head: str = ""


def prepare(folder: Folder, say: Say, command: str = "") -> Prepared:
    """Load and check everything.

    Raises:
        ExpungeError: The latest model was changed, or the settings no longer fit the requests.
    """
    state, settings = folder.state(), read_settings(folder.path / SETTINGS)
    entry, first = state["models"][-1], len(state["models"]) == 1
    path = folder.find(entry["file"], state)
    if sha256(path) != entry["sha256"]:
        raise ExpungeError(f"{path} was changed; restore it from a backup.")
    source, pins = pinned(
        folder, state, settings, lambda: load(settings.data), lambda: _removed_by(folder, state)
    )
    checkpoint = read_checkpoint(path, settings.ema if first else None)
    model = settings.build(source)
    load_into(model, checkpoint)
    remember_requests(model, _answered(folder, state, checkpoint, len(source.classes)))
    setting = _setting(settings, source, command)
    drawn, of_test = state.get("drawn"), settings.validation_from == "test"
    if drawn and drawn["held_out"] and (of_test or source.train.fingerprint() != drawn["data"]):
        if not of_test:
            say(
                "the training data has changed since the first request; the validation set stays the same by its ids."
            )
        names = json.loads(folder.find(HELD_OUT, state).read_text(encoding="utf-8"))
        setting = replace(setting, held_out=frozenset(names))
    if first and (note := check_original(checkpoint, _any_split(setting))):
        say(note.replace(ADVICE, 'set validation_from = "test" in expunge.toml'))
    return Prepared(state, request_entries(state), settings, setting, model.to(settings.device), path, pins)


def _setting(settings: ProjectSettings, source: Source, command: str) -> Setting:
    return Setting(
        train=source.train,
        test=source.test,
        task=Classification(len(source.classes)),
        method=settings.make_method(),
        validation=settings.validation,
        validation_from=settings.validation_from,
        split_seed=settings.split_seed,
        copies=settings.copies,
        seed=settings.seed,
        compute=Compute(**settings.compute),
        rehearse=settings.rehearse,
        recipe=settings.make_recipe() if settings.reference else None,
        factory=seeded_factory(lambda: settings.build(source).to(settings.device), settings.seed),
        measures=settings.measures,
        names={"model": settings.model, "data": source.name, "classes": source.classes},
        command=command,
        trials=settings.trials,
        fixed=sorted(settings.settings),
    )


def _answered(
    folder: Folder, state: dict[str, Any], checkpoint: Checkpoint, classes: int
) -> list[PastRequest]:
    """Return the requests that the latest model has answered."""
    kept = request_file(folder, state)
    requests = answered_requests(checkpoint, kept if kept.exists() else None)
    raise_all(
        [
            f"{kept}: request {at} removed class {k}, and the data has the classes 0 to {classes - 1}; restore the file from "
            "a backup, or give the data as it was."
            for at, request in enumerate(requests, 1)
            for k in request.classes
            if k >= classes
        ]
    )
    return requests


def _removed_by(folder: Folder, state: dict[str, Any]) -> dict[str, int]:
    """Return {id: number of the request} of all samples that were requested or removed."""
    numbers = {r["request"]: r["number"] for r in state["requests"]}
    path = request_file(folder, state)
    answered = read_requests(path) if path.exists() else []
    waiting = {name: r["number"] for r in state["requests"] for name in r["what"]["ids"]}
    return waiting | {name: numbers[p.request] for p in answered if p.request in numbers for name in p.ids}


def drawn_entry(prepared: Prepared, work: Path) -> dict[str, Any]:
    """Return the entry `drawn` of the state. The first request writes the ids of the validation set into `work`."""
    if entry := prepared.state.get("drawn"):
        return {**entry, **prepared.pins.write(work)}
    setting, digest = prepared.setting, ""
    if names := drawn_ids(
        setting.train, setting.test, setting.validation, setting.split_seed, setting.validation_from
    ):
        write_private_json(work / HELD_OUT, names)
        digest = sha256(work / HELD_OUT)
    return {
        "validation": setting.validation,
        **({"validation_from": "test"} if setting.validation_from == "test" else {}),
        "split_seed": setting.split_seed,
        "classes": list((setting.names or {})["classes"]),
        "data": setting.train.fingerprint(),
        "held_out": digest,
        **prepared.pins.write(work),
    }


def for_requests(prepared: Prepared, requests: Sequence[Wanted]) -> Setting:
    """Return the setting with the preset for what is forgotten."""
    scenario: Literal["class", "random"] = "class" if all(r.classes for r in requests) else "random"
    return replace(prepared.setting, method=prepared.settings.make_method(scenario))


def unanswered(prepared: Prepared, say: Say, new: Sequence[ProjectRequest] = ()) -> list[ProjectRequest]:
    """Return the requests that wait, came back or are not proved, without the `new` ones, with the ids of their samples.

    A request that came back gets those of its ids that the data still has. It is left out if there are none. One that is not
    proved is left out if the data lacks some of its ids, as no run can prove it.
    """
    known = {past.request: past.ids for past in requests_of(prepared.model)}
    entries = []
    for entry in (r for r in prepared.requests if r.is_open and r not in new):
        if entry.state != "waiting":
            ids = entry.what["ids"] or list(known.get(entry.request, ()))
            here = _present(ids, prepared.setting.train)
            if entry.state == "done" and len(here) < max(len(ids), entry.samples):
                say(f"request {entry.number} is not proved, and the data no longer has all of its samples.")
                continue
            if gone := len(ids) - len(here):
                say(
                    f"request {entry.number} came back, and the data no longer has {gone:,} of its {len(ids):,} samples; "
                    + ("the others are forgotten again." if here else "no run can answer it again.")
                )
            if not here:
                continue
            entry.what = {**entry.what, "ids": here if entry.kind == "ids" else []}
        entries.append(entry)
    return entries


def _present(ids: Sequence[str], data: Data) -> list[str]:
    """Return the ids that the data has. Without ids, a position is an id."""
    existing = set(map(str, range(len(data)) if data.ids is None else data.ids))
    return [name for name in ids if name in existing]


def _any_split(setting: Setting) -> Split:
    """Return a split whose training samples are those of every other one."""
    first = "0" if setting.train.ids is None else str(setting.train.ids[0])
    return setting.draw(Wanted(ids=(first,)))


def draw_each(
    setting: Setting, entries: Sequence[ProjectRequest], say: Say
) -> tuple[list[ProjectRequest], list[Split], list[str]]:
    """Draw the split of each request. One that cannot be drawn stays open, and does not keep the others waiting.

    Returns:
        The requests that can be drawn, their splits, and why the others cannot, one sentence for each problem. `say` gets
        these sentences too.
    """
    drawn, splits, problems = [], [], []
    for entry in entries:
        try:
            splits.append(setting.draw(entry.wanted))
        except ExpungeError as error:
            problems += [
                f"request {entry.number} cannot be answered and stays open: {text}" for text in error.problems
            ]
        else:
            drawn.append(entry)
    for text in problems:
        say(text)
    return drawn, splits, problems
