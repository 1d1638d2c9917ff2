"""The open requests of a project: which of them a run may answer, what each names today, and what waits meanwhile."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from shlex import quote

from ..data.forget_set import class_numbers
from ..data.id_problems import SHOWN_IDS, ids_of
from ..data.past_requests import requests_of
from ..data.samples import Data
from ..data.split import Split
from ..errors import ExpungeError, SplitError
from .answered import Setting
from .folder import LEDGER, MODELS
from .prepared import Prepared, Say
from .requests import ProjectRequest, audit_file
from .settings import ProjectSettings
from .wanted import Wanted

# number of a request, and why it stays open, as a sentence
StaysOpen = tuple[int, str]


def open_requests(
    prepared: Prepared, say: Say, new: Sequence[ProjectRequest] = ()
) -> tuple[list[ProjectRequest], list[StaysOpen]]:
    """Return the open requests that a run may answer, without the `new` ones, with the ids of their samples.

    They wait, came back, were reopened in the ledger, or are not proved. One that came back or was reopened gets those of its ids
    that the data still has. One that is not proved is left out if the last run for it had the same settings, or if the data
    lacks some of its ids. One that only the ledger has is left out.

    Returns:
        The requests, and why each of the others stays open.
    """
    known, ledger = {past.request: past.ids for past in requests_of(prepared.model)}, prepared.root / LEDGER
    entries, left = [], []
    for entry in (r for r in prepared.requests if r.is_open and r not in new):
        if entry.state != "waiting":
            ids = entry.what["ids"] or entry.all_ids(known)
            here = _present(ids, prepared.setting.train)
            classes = bool(_classes_left(entry, prepared.setting.train))
            if reason := _stays_open(entry, len(ids), len(here), classes, prepared.settings, ledger):
                left.append((entry.number, reason))
                continue
            if gone := len(ids) - len(here):
                say(
                    f"request {entry.number} {_why_open(entry)}, and the data no longer has {gone:,} of its {len(ids):,} samples; the "
                    "others are forgotten again."
                )
            entry.what = {**entry.what, "ids": here}
        entries.append(entry)
    return entries, left + [(e.number, what_to_do(e, ledger)) for e in prepared.in_ledger if e.is_open]


def still_open(prepared: Prepared, left: Sequence[StaysOpen], say: Say) -> list[str]:
    """Return why requests are open after a run that left them out. It may have given them what they lacked.

    Args:
        prepared: The project after the run, with the states in the ledger.
        left: What `draw_open` returned.
        say: Gets each sentence.
    """
    entries = {entry.number: entry for entry in [*prepared.requests, *prepared.in_ledger]}
    kept = [(entries[number], text) for number, text in left if entries[number].is_open]
    tried = [
        _tried(e) if not e.foreign and text.startswith(_NOT_PROVED.format(e.number)) else text
        for e, text in kept
    ]
    for text in tried:
        say(text)
    return tried


def what_to_do(entry: ProjectRequest, ledger: Path) -> str:
    """Return what to do about an open request that only `ledger` has, as a sentence."""
    return (
        f"request {entry.number} was added with `expunge ledger add`, so no run knows its samples. Enter it as a new request "
        f"with `expunge forget` (its subject, --due {entry.due}, and --ids, --class or --group), then close number "
        f"{entry.number} with `expunge ledger attach {quote(str(ledger))} {entry.number} --status withdrawn --note 'entered anew'`."
    )


def _why_open(entry: ProjectRequest) -> str:
    if entry.is_reopened:
        return "was reopened in the ledger"
    return "came back" if entry.state == "came back" else "is not proved"


def _stays_open(
    entry: ProjectRequest, count: int, here: int, classes: bool, settings: ProjectSettings, ledger: Path
) -> str:
    """Return why no run can close a request that came back, was reopened or is not proved; empty if one can.

    Args:
        entry: The request.
        count: Number of its samples.
        here: How many of them the data has.
        classes: Whether the data has samples of its classes.
        settings: The settings of the project.
        ledger: Its ledger.
    """
    start = f"request {entry.number} {_why_open(entry)}, and "
    gone = f"the data no longer has {count - here:,} of its {count:,} samples, "
    if not here and not classes:
        return f"{start}{gone}so no run can answer it again. {_remedy(entry, ledger)}"
    if entry.state != "done" or entry.is_reopened:
        return ""
    if here < (total := max(count, entry.samples)):
        gone = f"the data no longer has {total - here:,} of its {total:,} samples, "
        return f"{start}{gone}so no run can prove it. {_remedy(entry, ledger)}"
    if entry.foreign:
        return _evidence_again(entry, ledger)
    if entry.tried == settings.attempt(here):
        return _tried(entry)
    return ""


_NOT_PROVED = "request {} is done, and not proved."


def _tried(entry: ProjectRequest) -> str:
    return (
        f"{_NOT_PROVED.format(entry.number)} Missing: {'; '.join(entry.missing)}. A run with the same settings gives no other result, so "
        "none was made for it; change the settings of the method or the reference in expunge.toml, or the limits of the ledger."
    )


def _evidence_again(entry: ProjectRequest, ledger: Path) -> str:
    model = ledger.parent / MODELS / f"{entry.run:04d}.safetensors"
    own, run = audit_file(model, entry.number), quote(model.with_suffix("").as_posix())
    audit = quote(own.as_posix()) if own.is_file() else f"{run}.json"
    return (
        f"{_NOT_PROVED.format(entry.number)} Missing: {'; '.join(entry.missing)}. Run {entry.run} has answered it: attach its evidence "
        f"again with `expunge ledger attach {quote(str(ledger))} {entry.number} --record {run}.json --audit {audit} --receipt "
        f"{run}.receipt.json --ids FILE`, where FILE has the ids of the request, one a line."
    )


def _remedy(entry: ProjectRequest, ledger: Path) -> str:
    return (
        "Restore the samples from a backup for one run. Without a backup, train a model without them and begin a new project with it. "
        f"To close the request, use {_closing(entry, ledger)}."
    )


def _closing(entry: ProjectRequest, ledger: Path) -> str:
    return f"`expunge ledger attach {quote(str(ledger))} {entry.number} --status refused` or `withdrawn`"


def _classes_left(entry: ProjectRequest, train: Data) -> tuple[str, ...]:
    """Return the classes of a request that have samples in the data."""
    return tuple(name for name in entry.wanted.classes if _has_samples(name, train))


def _has_samples(name: str, train: Data) -> bool:
    try:
        return bool(class_numbers([name], train, train.num_classes))
    except SplitError:
        return False


def draw_open(
    prepared: Prepared, pending: bool, say: Say, new: Sequence[ProjectRequest] = ()
) -> tuple[list[ProjectRequest], list[Split], list[StaysOpen]]:
    """Return the open requests that a run may answer, their splits, and why the others stay open. None without `pending`."""
    entries, left = open_requests(prepared, say, new) if pending else ([], [])
    drawn, splits, problems = draw_each(prepared.setting, entries, say, prepared.root / LEDGER)
    return drawn, splits, [*left, *problems]


def draw_each(
    setting: Setting, entries: Sequence[ProjectRequest], say: Say, ledger: Path
) -> tuple[list[ProjectRequest], list[Split], list[StaysOpen]]:
    """Draw the split of each request from today's data. One that cannot be drawn does not keep the others waiting.

    Returns:
        The requests that can be drawn, their splits, and number and sentence for each problem of the others.
    """
    drawn, splits, problems = [], [], []
    for entry in entries:
        try:
            split = resolve(setting, entry)
        except ExpungeError as error:
            problems += [
                (
                    entry.number,
                    f"request {entry.number} cannot be answered and stays open: {text} Restore the samples, or close the request with "
                    f"{_closing(entry, ledger)} and ask for the others anew.",
                )
                for text in error.problems
            ]
            continue
        drawn.append(entry)
        splits.append(split)
        promised = len(entry.what["ids"])
        if promised and (more := len(split.forget) - promised) > 0:
            say(
                f"request {entry.number} names {more:,} more samples than the {promised:,} when it came; they are forgotten too."
            )
    return drawn, splits, problems


def resolve(setting: Setting, entry: ProjectRequest) -> Split:
    """Draw the split of a request from today's data. It has all samples that the request had when it came.

    The ledger has the hash of those samples, so that only a run that forgets all of them is proved.

    Raises:
        SplitError: The data no longer has all of them, or the split cannot be drawn.
    """
    split = setting.draw(entry.wanted if entry.state == "waiting" else _again(entry, setting.train))
    names = set(split.forget.ids)
    # they left their group, or were copies that the settings no longer include
    others = [name for name in entry.what["ids"] if name not in names]
    if not others:
        return split
    here = set(_present(others, setting.train))
    if gone := [name for name in others if name not in here]:
        shown = ", ".join(map(repr, gone[:SHOWN_IDS])) + (" ..." if len(gone) > SHOWN_IDS else "")
        raise SplitError(
            f"the data no longer has {len(gone):,} of the {len(entry.what['ids']):,} samples that it had when it came: {shown}."
        )
    rest = replace(setting, copies="ignore").draw(Wanted(ids=tuple(others), goal=split.goal))
    return replace(setting.union([split, rest]), copies=split.copies)


def _again(entry: ProjectRequest, train: Data) -> Wanted:
    """Return what of an answered request is forgotten again.

    New samples of a class belong to it. Those of a person who asked belong to a new request.
    """
    if entry.kind == "class":
        return replace(entry.wanted, classes=_classes_left(entry, train))
    return replace(entry.wanted, ids=tuple(entry.what["ids"]), group="")


def _present(ids: Sequence[str], data: Data) -> list[str]:
    """Return the ids that the data has."""
    existing = set(ids_of(data))
    return [name for name in ids if name in existing]
