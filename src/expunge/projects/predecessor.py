"""Begin a project with a model that has answered requests: what it knows of them, and what the data still has."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..data.earlier_samples import find_samples
from ..data.past_requests import PastRequest
from ..errors import ExpungeError, raise_all
from ..receipts.ledger import Ledger
from ..records.checkpoint import Checkpoint
from ..records.keyed import agrees
from ..records.request_file import read_requests, requests_path
from ..records.split_words import trained_size
from ..sources.source import Source
from .division import divided_as
from .entries import Entries
from .fingerprints import Fingerprints
from .folder import HELD_OUT, LEDGER, MODELS, SAMPLES, STATE, Folder, sha256, write_private_json
from .held_out import any_split
from .later_runs import later_run_problems
from .places import SETTINGS
from .recognised import check_recognised, check_validation
from .requests import ProjectRequest, receipts_of
from .sample_changes import sample_problems
from .state import request_entries


@dataclass(frozen=True, eq=False)
class Predecessor:
    """Hold what the project fixed that made a model.

    Args:
        requests: Its requests, without their states in the ledger.
        ledger: Its ledger.
        receipts: What `receipts_of` returned.
        drawn: The entry `drawn` of its state.
        held_out: Ids of its validation set; empty without one, and if its data has no ids.
        samples: Its fingerprints. None in a project of an earlier version.
    """

    requests: list[ProjectRequest]
    ledger: Path
    receipts: dict[str, set[str]]
    drawn: dict[str, Any]
    held_out: list[str]
    samples: Fingerprints | None


def predecessor_of(checkpoint: Path) -> Predecessor | None:
    """Return what the project fixed in whose folder `models` a checkpoint is. None outside of a project.

    Raises:
        ExpungeError: The files of that project are damaged, or it has a later model.
    """
    place = checkpoint.resolve()
    root = place.parent.parent
    if place.parent.name != MODELS or not all((root / name).is_file() for name in (SETTINGS, STATE)):
        return None
    folder = Folder(root)
    state = folder.state()
    drawn, files = state.get("drawn"), [entry["file"] for entry in state["models"]]
    if not drawn or f"{MODELS}/{place.name}" not in files or not place.is_file():
        return None
    at = files.index(f"{MODELS}/{place.name}")
    if later := [str(r["number"]) for r in state["requests"] if r.get("run", 0) > at]:
        raise ExpungeError(
            f"{checkpoint} is an older model of its project: later ones answered request{'s' * (len(later) > 1)} {', '.join(later)}; give "
            f"the latest, {root / files[-1]}."
        )
    raise_all(later_run_problems(root, state, MODELS, STATE, folder.find(LEDGER, state), Ledger))
    names, samples = folder.find(HELD_OUT, state), folder.find(SAMPLES, state)
    history = folder.find(str(requests_path(Path(files[at]))), state)
    raise_all(
        [
            f"{path} of the project that made {checkpoint} is missing or was changed; restore it from a backup, or copy the model and "
            "its request file out of that project."
            for path, digest in (
                (names, drawn["held_out"]),
                (samples, drawn.get("samples")),
                (history, state["models"][at].get("requests")),
            )
            if digest and (not path.is_file() or sha256(path) != digest)
        ]
    )
    return Predecessor(
        request_entries(state),
        folder.find(LEDGER, state),
        receipts_of(state, read_requests(history) if history.is_file() else ()),
        drawn,
        json.loads(names.read_text(encoding="utf-8")) if drawn["held_out"] else [],
        Fingerprints.load(samples) if drawn.get("samples") else None,
    )


def with_known_audits(answered: Sequence[PastRequest], before: Predecessor | None) -> list[PastRequest]:
    """Return requests that say whether their audits show that they are forgotten. Request files of earlier versions do not."""
    known = {} if before is None else {r.request: r.not_shown for r in before.requests if r.run}
    return [
        replace(past, not_shown=known[past.request])
        if past.not_shown is None and past.request in known
        else past
        for past in answered
    ]


def begin(
    work: Path,
    settings: Entries,
    source: Source,
    checkpoint: Checkpoint,
    answered: Sequence[PastRequest],
    before: Predecessor | None,
    say: Callable[[str], None],
    key: bytes | None = None,
) -> dict[str, Any] | None:
    """Write what a new project takes over from the one that made its model, and return the entry `drawn` of its state.

    `key` is that of the hashes in the metadata of the checkpoint, if it is known.

    Returns None where nothing is taken over: then the first request fixes everything.

    Raises:
        ExpungeError: Samples of earlier requests may be in the data, and nobody could recognise them; or the validation set
            of the model is not known.
    """
    if not answered:
        return None
    samples = None if before is None else before.samples
    if samples is not None:
        divided, current = divided_as(samples, source)
        check_recognised(samples, current, divided, lambda: {name for r in answered for name in r.ids}, say)
        # with another preprocessing, all contents are others
        samples = None if sample_problems(samples, current, divided, {}) else samples
        source = source if samples is None else divided
    say(_statement(answered, source))
    if before is None and not _is_changed(settings, source, checkpoint, key):
        return None
    raise_all(_validation_problems(settings, before))
    entry = {
        "validation": settings.validation,
        "validation_from": settings.validation_from,
        "split_seed": settings.split_seed,
        "classes": list(source.classes),
        # the validation set is that of the old project, and is not drawn from this data
        "data": "",
        "held_out": "",
    }
    if before is not None and before.held_out:
        part, data = (
            ("test", source.test) if settings.validation_from == "test" else ("training", source.train)
        )
        check_validation(before.held_out, {name for r in answered for name in r.ids}, data, part)
        write_private_json(work / HELD_OUT, before.held_out)
        entry["held_out"] = sha256(work / HELD_OUT)
    if samples is not None:
        samples.save(work / SAMPLES)
        entry["samples"] = sha256(work / SAMPLES)
    else:
        say(
            "copies of earlier requests' samples under other ids cannot be recognised in this project, as hashes of their contents are "
            "missing or come from another preprocessing."
        )
    return entry


def _is_changed(settings: Entries, source: Source, checkpoint: Checkpoint, key: bytes | None) -> bool:
    """Whether the data, or its validation set, is another one than the model was trained with.

    Without the key of a model that answered requests for classes only, the number of samples decides.
    """
    trained_on = checkpoint.metadata.get("train_hash")
    split = any_split(source, settings.validation, settings.split_seed, settings.validation_from)
    if trained_on is None:
        return False
    same = agrees(trained_on, split.train_hash, "train_hash", key)
    return trained_size(checkpoint) != len(split.train) if same is None else not same


def _validation_problems(settings: Entries, before: Predecessor | None) -> list[str]:
    """Return why the validation set of a model is not known, one sentence each."""
    if before is None:
        if not settings.validation or settings.validation_from == "test":
            return []
        return [
            f"validation is {settings.validation}, and the data has changed since the model was trained, so its validation set cannot "
            "be drawn again; give --validation-from test, or give the checkpoint in the folder `models` of its project, whose validation "
            "set is then kept."
        ]
    made_with = {"validation_from": "train", **before.drawn}
    return [
        f"{name} is {getattr(settings, name)}, and the model was made with {made_with[name]}; give --{name.replace('_', '-')} "
        f"{made_with[name]}."
        for name in ("validation", "validation_from", "split_seed")
        if getattr(settings, name) != made_with[name]
    ]


def _statement(answered: Sequence[PastRequest], source: Source) -> str:
    """Return which requests the model has answered, and how many of their samples the data has.

    Raises:
        SplitError: Requests name their samples by position, and the data has changed since.
    """
    parts = []
    for number, entry in enumerate(find_samples(answered, source.train, source.test), 1):
        count, here = len(entry.past.ids), entry.count
        text = f"{number} ({entry.past.scenario}, {count:,} sample{'s' * (count != 1)}): "
        parts.append(
            text + (f"{here:,} in the data" if here else "none in the data, so there is nothing to leave out")
        )
    shown = "; ".join(parts[:_SHOWN]) + (f"; and {len(parts) - _SHOWN:,} more" if len(parts) > _SHOWN else "")
    return f"the model has answered {len(parts):,} earlier requests, whose samples stay out of training: {shown}."


_SHOWN = 10
