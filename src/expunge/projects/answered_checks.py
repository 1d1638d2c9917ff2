"""Compare an answered request of `state.json` with the request file, the ledger and the records of its runs."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..data.id_forms import composed
from ..data.past_requests import PastRequest
from ..receipts.deletion import Request as LedgerRequest
from ..receipts.deletion import ids_hash
from ..records.record import Record
from ..records.statistics import contradicted
from .folder import Folder
from .requests import ProjectRequest

# a class number as `class_numbers` takes it
_CLASS = re.compile(r"(-?[0-9]+)(\.0*)?")


class Records:
    """Read the record of each run once."""

    def __init__(self, folder: Folder, state: Mapping[str, Any]):
        self.folder, self.state = folder, state
        self.read: dict[int, Record | None] = {}

    def of(self, run: int) -> Record | None:
        """Return the record of a run; None if its file is missing."""
        if run not in self.read:
            name = str(Path(self.state["models"][run]["file"]).with_suffix(".json"))
            path = self.folder.find(name, dict(self.state))
            self.read[run] = Record.load(path) if run and path.is_file() else None
        return self.read[run]


def answered_entries(
    request: ProjectRequest,
    state: dict[str, Any],
    answered: Sequence[PastRequest],
    known: LedgerRequest,
    records: Records,
) -> list[str]:
    """Return where an answered request is not what the model, the ledger and the records know of it."""
    goal = request.what.get("goal") or ("unlearn" if request.kind == "class" else "untrain")
    same = [p for p in answered if p.request == request.request]
    # two requests of one run may have the same samples and other goals
    past = next((p for p in same if p.goal == goal), same[0] if same else None)
    if past is None:
        return ["the entry request is not the hash of a request that the model has answered"]
    reasons = []
    receipt = state["models"][request.run].get("receipt")
    # a repeated request names the run of the earlier one, which a later run may have answered again
    again = sum(r["request"] == request.request for r in state["requests"]) > 1 and receipt != past.receipt
    if past.receipt and receipt != past.receipt and not again:
        reasons.append(f"the entry run is {request.run}, and another run has its receipt {past.receipt}")
    sizes = {p.request: len(p.ids) for p in answered}
    places = {request.request: request.part, **request.before}
    if any(at >= sizes.get(split, 0) for split, own in places.items() for at in own):
        reasons.append(
            "the entry part has positions beyond the samples that its run removed, or the entry before has"
        )
    elif known.proved and ids_hash(known.ids_salt, request.ids_in(past.ids)) != known.ids_hash:
        reasons.append("the entries request and part name other samples than the ledger got when it came")
    others = {r["number"]: r["request"] for r in state["requests"] if r["number"] != request.number}
    if request.scores_of and others.get(request.scores_of) != request.request:
        reasons.append(f"the entry scores_of is {request.scores_of}, and its run answered no such request")
    if dict(past.scores) != request.then and not again:
        reasons.append("the entry then has other scores than the audit of its run")
    if goal != past.goal and past.goal != "unlearn":
        reasons.append(f"the entry what.goal is {goal!r}, and its run had {past.goal!r}")
    reasons += _names(request, state, past)
    if again:
        return reasons
    return reasons + list(_audits(request, past, records, sound=not reasons))


def _audits(request: ProjectRequest, past: PastRequest, records: Records, sound: bool) -> Iterator[str]:
    """Yield where an answered request is not what the records of its audits say; of its own only if it is `sound` so far."""
    record = records.of(request.audited)
    scores = None if record is None else _audited_scores(request, past, record)
    if scores is not None and request.audited and request.now != scores:
        sound = False
        yield (f"the entry now has other scores than the audit of run {request.audited}")
    own = records.of(request.run) if sound else None
    if own is not None and request.unreliable_mia != contradicted(own.scores):
        yield (
            f"the entry unreliable_mia is {request.unreliable_mia}, and the audit of its run says otherwise"
        )
    entries = [] if own is None else own.details.get("requests", [])
    # a repeated request has no entry of its own
    entries = sorted(entries, key=lambda e: e.get("number") != request.number)
    warned = [bool(e.get("warning")) for e in entries if e.get("request") == past.request]
    if warned and warned[0] != request.not_shown:
        yield (f"the entry not_shown is {request.not_shown}, and the audit of its run says otherwise")


def _names(request: ProjectRequest, state: Mapping[str, Any], past: PastRequest) -> Iterator[str]:
    """Yield where the classes or the group of an answered request are not those that its run removed."""
    names = [composed(name) for name in (state.get("drawn") or {}).get("classes", ())]
    for name in request.what["classes"] if past.classes and names else ():
        numbers = {k for k, known in enumerate(names) if composed(name) == known}
        if not numbers and (whole := _CLASS.fullmatch(name)):
            numbers = {int(whole[1])}
        if not numbers & set(past.classes):
            yield f"the entry what.classes has {name!r}, which its run did not remove by the order of drawn.classes"
    column, _, value = request.what.get("group", "").partition("=")
    kept = past.description
    if (
        kept.get("scenario") == "group"
        and request.kind == "group"
        and [column, [value]] != [kept.get("column"), list(kept.get("values", ()))]
    ):
        yield f"the entry what.group is {request.what['group']!r}, and its run removed another group"


def _audited_scores(request: ProjectRequest, past: PastRequest, record: Record) -> dict[str, float] | None:
    """Return UA and MIA of a request in the record of the run that audited it last; None if it has none."""
    if request.audited == request.run:
        return dict(past.scores)
    for entry in record.details.get("earlier_requests", ()):
        if entry.get("request") == past.request and entry.get("UA") is not None:
            return {name: entry[name] for name in ("UA", "MIA") if entry.get(name) is not None}
    return None
