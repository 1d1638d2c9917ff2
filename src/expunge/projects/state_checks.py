"""Compare `state.json` and the request file with what the ledger and the secrets of the receipts know."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..data.id_forms import composed
from ..errors import ExpungeError
from ..receipts.commitment import Secret
from ..receipts.deletion import ids_hash
from ..receipts.ledger import Ledger
from ..receipts.receipt import receipt_paths
from ..records.request_file import read_requests
from .folder import STATE, Folder, request_file

_BACKUP = "restore it from a backup"


def state_problems(folder: Folder, state: dict[str, Any], ledger: Ledger) -> list[str]:
    """Return where the requests of a state are not those of the ledger, one sentence each.

    Requests that were added with `expunge ledger add` are no problem, also if somebody attached a receipt of the project to them.
    Only a ledger of an earlier version does not say which those are.
    """
    place, entries = folder.path / STATE, {r["number"]: r for r in state["requests"]}
    known = {r.number: r for r in ledger.requests()}
    marked = any(r.project for r in known.values())
    receipts = set() if marked else {m["receipt"] for m in state["models"] if m.get("receipt")}
    problems = [
        f"{place} lacks request {n}, which {ledger.path} has as a request of this project; {_BACKUP}."
        for n, r in known.items()
        if n not in entries and (r.project or r.receipt in receipts)
    ]
    for n, entry in entries.items():
        if n not in known:
            problems.append(f"{place} has request {n}, and {ledger.path} does not; {_BACKUP}.")
            continue
        pairs = {
            "the due day": (entry["due"], known[n].due),
            "the subject": (composed(entry["subject"]).strip(), known[n].subject),
            "the number of samples": (entry["samples"], known[n].ids),
        }
        problems += [
            f"{place} has {kept} as {name} of request {n}, and {ledger.path} has {there}; {_BACKUP}."
            for name, (kept, there) in pairs.items()
            if kept != there
        ]
        if (ids := promised_ids(entry)) and ids_hash(known[n].ids_salt, ids) != known[n].ids_hash:
            problems.append(
                f"{place} has other samples for request {n} than {ledger.path} got when it came; {_BACKUP}."
            )
        if entry["state"] == "waiting" and ids_differ(entry):
            problems.append(
                f"{place} has {len(entry['what']['ids'])} ids for request {n}, which came with {entry['samples']} samples; {_BACKUP}."
            )
        if entry["state"] == "done" and not entry.get("run"):
            problems.append(f"{place} says that request {n} is done, and names no run for it; {_BACKUP}.")
        if entry["state"] == "waiting" and entry.get("run"):
            problems.append(f"{place} says that request {n} waits, and names a run for it; {_BACKUP}.")
    if entries and state.get("ledger") and not state.get("drawn"):
        problems.append(f"{place} lacks the entry drawn, which the first request wrote; {_BACKUP}.")
    return problems


def ids_differ(entry: dict[str, Any]) -> bool:
    """Return whether a waiting request lacks ids that it had. One by class or group of an earlier version has none."""
    ids = entry["what"]["ids"]
    return len(ids) != entry["samples"] and (bool(ids) or entry["kind"] == "ids")


def promised_ids(entry: dict[str, Any]) -> list[str]:
    """Return the ids of a waiting request when it came. A request by class or group of an earlier version has none."""
    return list(entry["what"]["ids"]) if entry["state"] == "waiting" else []


def id_problems(folder: Folder, state: dict[str, Any]) -> list[str]:
    """Return which answered requests have ids that the secret of their receipt does not have. Each id is hashed."""
    path = request_file(folder, state)
    if not path.is_file():
        return []
    models = {m["receipt"]: m["file"] for m in state["models"] if m.get("receipt")}
    problems = []
    try:
        for at, past in enumerate(read_requests(path), 1):
            if past.receipt not in models:
                continue
            _, name = receipt_paths(Path(models[past.receipt]), past.receipt)
            place = folder.find(str(name), state)
            secret = Secret.load(place) if place.is_file() else None
            if secret and (not past.commitment or secret.commitment == past.commitment):
                wrong = sum(i not in secret for i in past.ids)
                if wrong:
                    problems.append(
                        f"{path}: request {at} has {wrong} ids that its receipt {past.receipt} does not have; {_BACKUP}."
                    )
    except ExpungeError as error:
        return error.problems
    return problems
