"""Which requests `--pending` answers, and why others cannot be answered: the data may no longer have their samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ..data.forget_set import class_numbers
from ..data.past_requests import PastRequest, requests_of
from ..data.samples import Data
from ..data.split import Split
from ..errors import ExpungeError, SplitError
from .folder import LEDGER
from .prepared import Prepared, Say
from .requests import ProjectRequest
from .wanted import Wanted


def waiting_splits(
    prepared: Prepared, say: Say, new: Sequence[ProjectRequest] = ()
) -> tuple[list[ProjectRequest], list[Split], list[str]]:
    """Draw the splits of the requests that wait, came back or are not proved, without the `new` ones.

    One that cannot be drawn stays open, and does not keep the others waiting. A request that came back gets those of its
    samples that the data still has. One that is not proved needs all of them, as no other run can prove it.

    Returns:
        The requests that can be drawn, their splits, and why the others cannot, one sentence for each problem. `say` gets
        these sentences too.
    """
    known = {past.request: past for past in requests_of(prepared.model)}
    drawn, splits, problems = [], [], []
    for entry in (r for r in prepared.requests if r.is_open and r not in new):
        try:
            what = entry.wanted
            if entry.state != "waiting":
                what = _again(entry, known.get(entry.request), prepared.setting.train, say)
            splits.append(prepared.setting.draw(what))
            drawn.append(entry)
        except ExpungeError as error:
            problems += [
                f"request {entry.number} cannot be answered and stays open: {text} {_remedy(entry)}"
                for text in error.problems
            ]
    for text in problems:
        say(text)
    return drawn, splits, problems


def _again(entry: ProjectRequest, past: PastRequest | None, train: Data, say: Say) -> Wanted:
    """Return what of an answered request can be forgotten again.

    A group is repeated for the samples that it had: new ones of the same person belong to a new request.

    Raises:
        SplitError: The data does not have the samples that this needs.
    """
    ids = list(entry.what["ids"] or (past.ids if past is not None else ()))
    here, count = _present(ids, train), max(len(ids), entry.samples)
    gone = f"the data no longer has {count - len(here):,} of its {count:,} samples"
    if entry.kind == "class":
        classes = tuple(name for name in entry.wanted.classes if _has_samples(name, train))
        left, what = len(classes), replace(entry.wanted, classes=classes)
    else:
        left, what = len(here), replace(entry.wanted, ids=tuple(here), group="")
    if entry.state == "done" and len(here) < count:
        raise SplitError(f"it is not proved, and {gone}, so no run can prove it.")
    if not left:
        raise SplitError(f"it came back, and {gone}, so no run can answer it again.")
    if len(here) < count:
        say(f"request {entry.number} came back, and {gone}; the others are forgotten again.")
    return what


def _has_samples(name: str, train: Data) -> bool:
    try:
        return bool(class_numbers([name], train, train.num_classes))
    except SplitError:
        return False


def _present(ids: Sequence[str], data: Data) -> list[str]:
    """Return the ids that the data has. Without ids, a position is an id."""
    existing = set(map(str, range(len(data)) if data.ids is None else data.ids))
    return [name for name in ids if name in existing]


def _remedy(entry: ProjectRequest) -> str:
    close = f"`expunge ledger attach {LEDGER} {entry.number} --status refused` or `withdrawn`"
    if entry.state == "waiting":
        return f"Restore the samples, or close the request with {close} and ask for the others anew."
    return (
        "Restore the samples from a backup for one run. Without a backup, train a model without them and begin a new project with "
        f"it. To close the request, use {close}."
    )
