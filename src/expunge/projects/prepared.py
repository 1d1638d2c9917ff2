"""What a command of a project works with: its state, settings, data and latest model, each checked against the others."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from torch import nn

from ..data.past_requests import PastRequest, remember_requests, requests_of
from ..data.split import Split
from ..errors import ExpungeError, raise_all
from ..pipeline.factory import seeded_factory
from ..receipts.request_entry import request_entry
from ..records.checkpoint import Checkpoint, read_checkpoint
from ..records.checkpoint_loading import load_into
from ..records.checkpoint_metadata import ADVICE, check_original
from ..records.checkpoint_requests import answered_requests
from ..sources.loading import load
from ..sources.source import Source
from ..tasks.classification import Classification
from ..training.method import Method
from ..training.registry import recipe_from_metadata
from ..training.run import Compute
from .answered import Setting
from .first_model import first_parameters
from .folder import HELD_OUT, Folder, request_file, sha256, write_private_json
from .gone import note_gone, removed_before
from .held_out import any_split, drawn_ids
from .kept_requests import named_samples, removed_samples
from .pins import REPLACED, Pins, pinned, replaced_before_first_run
from .places import SETTINGS
from .recognised import check_validation
from .request_csv import place_of
from .requests import ProjectRequest
from .returned import find_returned
from .settings import ProjectSettings, check_inputs, read_settings
from .state import request_entries
from .turns import in_turn
from .wanted import NO_SUBJECT, Wanted

Say = Callable[[str], None]


def say_nothing(text: str) -> None:
    """Take a note for the user, and drop it."""


@dataclass
class Prepared:
    """Hold what a command of a project works with: its state, settings, data and latest model.

    `ledger_head` is the head of the ledger that the command copied; empty without a ledger. `in_ledger` are the requests that only
    the ledger has. `trained` is the recipe that the checkpoint names, or None.
    """

    state: dict[str, Any]
    requests: list[ProjectRequest]
    settings: ProjectSettings
    setting: Setting
    model: nn.Module
    model_file: Path
    pins: Pins
    ledger_head: str = ""
    in_ledger: list[ProjectRequest] = field(default_factory=list)
    trained: Method | None = None

    @property
    def root(self) -> Path:
        """The folder of the project, as it was given."""
        return self.model_file.parents[1]


@in_turn
def prepare(folder: Folder, say: Say, command: str = "") -> Prepared:
    """Load and check everything.

    Raises:
        ExpungeError: The latest model was changed, or the settings no longer fit the requests.
    """
    state, settings = folder.state(), read_settings(folder.settings_file)
    entry, first = state["models"][-1], len(state["models"]) == 1
    path = folder.find(entry["file"], state)
    if sha256(path) != entry["sha256"]:
        raise ExpungeError(f"{path} was changed; restore it from a backup.")
    read, removed = partial(_load, settings), partial(removed_samples, folder, state)
    pin = partial(pinned, folder, state, settings, read, removed, partial(named_samples, folder, state), say)
    source, pins = replaced_before_first_run(state, pin, say)
    checkpoint = read_checkpoint(path, settings.ema if first else None)
    load_into(model := settings.build(source), checkpoint)
    answered, requests = _answered(folder, state, checkpoint, len(source.classes)), request_entries(state)
    remember_requests(model, answered)
    trained = recipe_from_metadata(checkpoint)
    numbers = {entry.request: entry.number for entry in reversed(requests)}
    note_gone(requests, answered, source, say)
    returned = find_returned(
        pins.fingerprints, pins.current, source.train, answered, numbers, settings.copies
    )
    for text in returned.sentences:
        say(text)
    original = partial(first_parameters, folder, state)
    setting = replace(_setting(settings, source, command, trained, original), returned=returned)
    drawn, of_test = state.get("drawn"), settings.validation_from == "test"
    if drawn and drawn.get("held_out") and (of_test or source.train.fingerprint() != drawn["data"]):
        names = json.loads(folder.find(HELD_OUT, state).read_text(encoding="utf-8"))
        part, data = ("test", source.test) if of_test else ("training", source.train)
        here = check_validation(names, named_samples(folder, state), data, part)
        if drawn["data"] and not of_test:
            say(
                "the training data has changed since the first request; the validation set stays the same by its ids, and has "
                f"{here:,} of its {len(names):,} samples."
            )
        setting = replace(setting, held_out=frozenset(names))
    split = any_split(source, settings.validation, settings.split_seed, settings.validation_from)
    # from the first request on, the fingerprints of the samples say more
    if first and not drawn and (note := check_original(checkpoint, split)):
        say(note.replace(ADVICE, 'set validation_from = "test" in expunge.toml'))
    model = model.to(settings.device)
    check_inputs(model, source)
    return Prepared(state, requests, settings, setting, model, path, pins, trained=trained)


def _load(settings: ProjectSettings, known: Sequence[str]) -> Source:
    try:
        return load(settings.data, known)
    except ExpungeError as error:
        raise_all([f"{SETTINGS}: data: {text}" for text in error.problems])
        raise


def _setting(
    settings: ProjectSettings,
    source: Source,
    command: str,
    trained: Method | None,
    original: Callable[..., Any],
) -> Setting:
    build = partial(settings.build, source)
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
        recipe=settings.make_recipe(trained) if settings.reference else None,
        factory=seeded_factory(
            lambda: build().to(settings.device), settings.seed, trained=partial(original, build, settings.ema)
        ),
        measures=settings.measures,
        names={"model": settings.model, "data": source.name, "classes": source.classes},
        command=command,
        trials=settings.trials,
        fixed=sorted(settings.settings),
        max_loss=settings.max_loss,
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


def drawn_entry(prepared: Prepared, work: Path) -> dict[str, Any]:
    """Return the entry `drawn` of the state. The first request writes the ids of the validation set into `work`."""
    if (entry := prepared.state.get("drawn") or {}) and REPLACED not in entry:
        return {**entry, **prepared.pins.write(work)}
    setting, digest = prepared.setting, ""
    names = drawn_ids(
        setting.train, setting.test, setting.validation, setting.split_seed, setting.validation_from
    )
    if names or (prepared.root / HELD_OUT).exists():
        # a file of settings that were replaced before the first run must not stay
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


def check_new_requests(prepared: Prepared, new: Sequence[Wanted], splits: Sequence[Split]) -> None:
    """Raise `ExpungeError` for days or subjects that the ledger would refuse."""
    for request, split in zip(new, splits, strict=True):
        request_entry(
            request.subject or NO_SUBJECT,
            split.forget.ids,
            request.received,
            request.due,
            prepared.settings.days,
        )


def draw_new(prepared: Prepared, new: Sequence[Wanted]) -> list[Split]:
    """Draw the splits of new requests.

    Raises:
        ExpungeError: A request cannot be drawn. It is named if an earlier request removed what the data lacks.
    """
    splits, problems = [], []
    for request in new:
        try:
            splits.append(prepared.setting.draw(request))
        except ExpungeError as error:
            hints = removed_before(
                request,
                prepared.requests,
                requests_of(prepared.model),
                prepared.setting.train,
                prepared.state["models"],
                prepared.root,
            )
            place = place_of(request, prepared.setting.train)
            problems += [*(f"{place}{text}" for text in error.problems), *hints]
    raise_all(problems)
    return splits
