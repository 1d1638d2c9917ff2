"""Compare each entry of `state.json` with everything that knows it too, before a person's version of it is accepted.

Requests are compared with the request file, the ledger and the records of their runs, `drawn` and `models` with the files.
Free texts (`gone`, `reason`) and what only a run knows of a waiting request cannot be compared.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..data.id_forms import composed
from ..data.past_requests import PastRequest
from ..receipts.deletion import Request as LedgerRequest
from ..receipts.deletion import ids_hash
from ..receipts.ledger import Ledger
from ..receipts.receipt import Receipt
from ..records.record import Record
from ..records.request_file import read_requests
from ..records.statistics import contradicted
from .folder import HELD_OUT, LEDGER, SAMPLES, STATE, Folder, request_file, sha256
from .requests import ProjectRequest
from .seal import SEAL
from .state import request_entries

_BACKUP = "restore the file from a backup"
_HASH = re.compile(r"[0-9a-f]{64}")
_ATTEMPT = re.compile(r"([0-9a-f]{16})?")


def entry_problems(folder: Folder, state: dict[str, Any]) -> list[str]:
    """Return which entries of a state contradict the files of the project, one sentence each. Missing files say nothing.

    Raises:
        ExpungeError: The request file, the ledger, a receipt or a record cannot be read.
    """
    path = request_file(folder, state)
    answered = read_requests(path) if path.is_file() else None
    found = [
        *_model_entries(folder, state),
        *_drawn_entries(folder, state, answered or ()),
        *_lost_entries(folder, state),
    ]
    # what follows from them would only confuse
    entries = [] if found else request_entries(state)
    ledger = {r.number: r for r in Ledger(folder.find(LEDGER, state)).requests()}
    records = _Records(folder, state)
    for request in entries:
        reasons = _forms(request, len(state["models"]) - 1)
        known = ledger.get(request.number)
        if not reasons and request.state != "waiting" and answered is not None and known is not None:
            reasons = _answered_entries(request, state, answered, known, records)
        found += [f"request {request.number}: {text}" for text in reasons]
    return [f"{folder.path / STATE}: {text}; {_BACKUP}." for text in found]


class _Records:
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


def _model_entries(folder: Folder, state: dict[str, Any]) -> Iterator[str]:
    """Yield what is wrong with the entries of the models."""
    for run, entry in enumerate(state["models"]):
        where, path = f"the entry models.{run}", Path(entry["file"])
        expected = f"models/{run:04d}"
        if path.with_suffix("").as_posix() != expected or (run and path.suffix != ".safetensors"):
            yield f"{where}.file is {entry['file']!r}, and the file of run {run} is {expected}.safetensors"
            continue
        if not _HASH.fullmatch(entry["sha256"]):
            yield f"{where}.sha256 is no hash of 64 hex digits"
        elif (file := folder.find(entry["file"], state)).is_file() and sha256(file) != entry["sha256"]:
            yield f"{where}.sha256 is not the hash of {file}"
        receipt = folder.find(str(path.with_suffix(".receipt.json")), state)
        if run and receipt.is_file():
            noted = Receipt.load(receipt)
            if noted.id != entry.get("receipt"):
                yield f"{where}.receipt is {entry.get('receipt', '')!r}, and {receipt} is {noted.id}"
            if entry["sha256"] != noted.envelope.get("files", {}).get("model", entry["sha256"]):
                yield f"{where}.sha256 is not the hash of the model in {receipt}"
    last = state["models"][-1]
    if state.get(SEAL) and not last.get("requests") and request_file(folder, state).is_file():
        yield f"the entry models.{len(state['models']) - 1}.requests is empty, and {request_file(folder, state)} is there"


def _drawn_entries(folder: Folder, state: dict[str, Any], answered: Sequence[PastRequest]) -> Iterator[str]:
    """Yield what is wrong with the entry `drawn`, as far as no data is needed."""
    drawn = state.get("drawn")
    if not drawn:
        return
    for name, file in (("held_out", HELD_OUT), ("samples", SAMPLES)):
        if not drawn.get(name) and folder.find(file, state).is_file():
            yield f"the entry drawn.{name} is empty, and {file} is there"
    if bool(drawn.get("samples")) != bool(drawn.get("inputs")):
        yield "of the entries drawn.samples and drawn.inputs one is empty, and both are written together"
    if not _HASH.fullmatch(drawn["data"]):
        yield "the entry drawn.data is no hash of 64 hex digits"
    receipts = {entry["receipt"] for entry in state["models"] if entry.get("receipt")}
    for past in answered:
        if past.receipt not in receipts:
            # a request of an earlier project, which drew its own validation set
            continue
        values = {"validation": "validation", "split_seed": "seed", "validation_from": "validation_from"}
        kept = {"validation_from": "train", **past.description}
        wrong = [
            n
            for n, key in values.items()
            if key in kept and {"validation_from": "train", **drawn}[n] != kept[key]
        ]
        yield from (
            f"the entry drawn.{n} is {drawn.get(n)!r}, and its runs had {kept[values[n]]!r}" for n in wrong
        )
        if kept.get("classes", len(drawn["classes"])) != len(drawn["classes"]):
            yield f"the entry drawn.classes has {len(drawn['classes'])} classes, and its runs had {kept['classes']}"
        return


def _lost_entries(folder: Folder, state: dict[str, Any]) -> Iterator[str]:
    """Yield which entries are empty that every sealed state has."""
    if not state.get(SEAL):
        # an earlier version did not write them all
        return
    if state["requests"] and not state.get("ledger"):
        yield "the entry ledger is empty"
    if len(state["models"]) > 1 and not state.get("files"):
        yield "the entry files is empty"


def _forms(request: ProjectRequest, last: int) -> list[str]:
    """Return what is wrong with a request by itself."""
    what, reasons = request.what, []
    asked = {
        "ids": not what["classes"] and not what.get("group"),
        "class": bool(what["classes"]),
        "group": bool(what.get("group")),
    }
    if not asked[request.kind] or sum(asked.values()) != 1:
        reasons.append(f"the entry kind is {request.kind!r}, and the entry what asks for something else")
    if request.kind == "group":
        reasons += [f"the entry what.group: {text}" for text in request.wanted.problems()]
    for name in ("subject", "due"):
        if what.get(name) and what[name] != getattr(request, name):
            reasons.append(f"the entries {name} and what.{name} differ")
    if not _HASH.fullmatch(request.request):
        reasons.append("the entry request is no hash of 64 hex digits")
    if not _ATTEMPT.fullmatch(request.tried):
        reasons.append("the entry tried is no hash of 16 hex digits")
    if request.audited > last or (request.state != "waiting" and request.audited < request.run):
        reasons.append(
            f"the entry audited is {request.audited}, and audits followed the runs {request.run} to {last}"
        )
    if request.state == "came back" and not request.run:
        reasons.append("the entry state is 'came back', and no run is named")
    wrong = [f"{n}.{k}" for n in ("then", "now") for k, v in getattr(request, n).items() if not 0 <= v <= 100]
    return reasons + [f"the entry {name} is no percentage" for name in wrong]


def _answered_entries(
    request: ProjectRequest,
    state: dict[str, Any],
    answered: Sequence[PastRequest],
    known: LedgerRequest,
    records: _Records,
) -> list[str]:
    """Return where an answered request is not what the model, the ledger and the records know of it."""
    past = next((p for p in answered if p.request == request.request), None)
    if past is None:
        return ["the entry request is not the hash of a request that the model has answered"]
    reasons = []
    receipt = state["models"][request.run].get("receipt")
    # a repeated request names the run of the earlier one, which a later run may have answered again
    again = sum(r["request"] == request.request for r in state["requests"]) > 1 and receipt != past.receipt
    if past.receipt and receipt != past.receipt and not again:
        reasons.append(f"the entry run is {request.run}, and another run has its receipt {past.receipt}")
    if any(at >= len(past.ids) for at in request.part):
        reasons.append(f"the entry part has positions beyond its {len(past.ids)} samples")
    elif known.proved and ids_hash(known.ids_salt, request.ids_in(past.ids)) != known.ids_hash:
        reasons.append("the entries request and part name other samples than the ledger got when it came")
    if dict(past.scores) != request.then and not again:
        reasons.append("the entry then has other scores than the audit of its run")
    goal = request.what.get("goal") or ("unlearn" if request.kind == "class" else "untrain")
    if goal != past.goal and past.goal != "unlearn":
        reasons.append(f"the entry what.goal is {goal!r}, and its run had {past.goal!r}")
    reasons += _names(request, state, past)
    if again:
        return reasons
    record = records.of(request.audited)
    scores = None if record is None else _audited_scores(request, past, record)
    if scores is not None and request.audited and request.now != scores:
        reasons.append(f"the entry now has other scores than the audit of run {request.audited}")
    own = None if reasons else records.of(request.run)
    if own is not None and request.unreliable_mia != contradicted(own.scores):
        reasons.append(
            f"the entry unreliable_mia is {request.unreliable_mia}, and the audit of its run says otherwise"
        )
    entries = [] if own is None else own.details.get("requests", [])
    warned = [bool(e.get("warning")) for e in entries if e.get("request") == past.request]
    if warned and warned[0] != request.not_shown:
        reasons.append(f"the entry not_shown is {request.not_shown}, and the audit of its run says otherwise")
    return reasons


def _names(request: ProjectRequest, state: Mapping[str, Any], past: PastRequest) -> Iterator[str]:
    """Yield where the classes or the group of an answered request are not those that its run removed."""
    names = [composed(name) for name in (state.get("drawn") or {}).get("classes", ())]
    for name in request.what["classes"] if past.classes and names else ():
        numbers = {k for k, known in enumerate(names) if composed(name) in (known, str(k))}
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
