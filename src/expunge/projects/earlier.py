"""Which earlier request removed already what another one asks for, and answers it too."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..data.past_requests import PastRequest
from ..data.split import Split
from ..receipts.ledger import Ledger
from ..receipts.receipt import receipt_paths
from .folder import Folder, sha256
from .requests import NOT_PROVED, ProjectRequest, audit_file


def covers(past: PastRequest, split: Split) -> bool:
    """Return whether an answered request removed all that a split asks for."""
    asked = split.as_request("")
    if asked.goal == "unlearn" and past.goal != "unlearn":
        return False
    return set(asked.classes) <= set(past.classes) and set(asked.ids) <= set(past.ids)


def earlier_answer(
    split: Split, answered: Sequence[PastRequest], requests: Sequence[ProjectRequest]
) -> ProjectRequest | None:
    """Return the latest request of a project that is done and proved, and removed all that a split asks for, or None.

    Also None if another request for some of these samples came back or was reopened: then the latest model may know them.
    """
    by_hash = {past.request: past for past in answered}
    known, asked = {past.request: past.ids for past in answered}, set(split.as_request("").ids)
    for request in requests:
        again = request.is_open and (request.state == "came back" or request.is_reopened)
        if again and not asked.isdisjoint(request.all_ids(known)):
            return None
    for request in reversed(requests):
        past = by_hash.get(request.request)
        done = request.state == "done" and not request.is_open
        if past is not None and done and request.run and covers(past, split):
            return request
    return None


def evidence(folder: Folder, state: dict[str, Any], request: ProjectRequest) -> dict[str, Path]:
    """Return record, audit, receipt and secret of an answered request; empty if one of them is missing or was changed."""
    entry = state["models"][request.run]
    model = folder.path / entry["file"]
    own, hashes = audit_file(model, request.number), state.get("files", {})
    receipt, secret = receipt_paths(model, entry["receipt"])
    files = {
        "audit": own if own.is_file() or _name(folder, own) in hashes else model.with_suffix(".json"),
        "record": model.with_suffix(".json"),
        "receipt": receipt,
        "secret": secret,
    }
    sound = all(
        file.is_file() and hashes.get(_name(folder, file), digest := sha256(file)) == digest
        for file in files.values()
    )
    return files if sound else {}


def _name(folder: Folder, file: Path) -> str:
    """Return the name that `state.json` has for a file of the project."""
    return file.relative_to(folder.path).as_posix()


def follow(request: ProjectRequest, earlier: ProjectRequest, past: PastRequest) -> None:
    """Let a request be one that the run of an earlier one answered: later audits name that, and both come back together."""
    request.state, request.request, request.run = "done", earlier.request, earlier.run
    request.then, request.now = dict(earlier.then), dict(earlier.now)
    request.audited = earlier.audited
    request.not_shown, request.unreliable_mia = earlier.not_shown, earlier.unreliable_mia
    request.keep_part(past)
    same = len(request.all_ids({past.request: past.ids})) == len(earlier.all_ids({past.request: past.ids}))
    request.scores_of = earlier.scores_of if same else earlier.scores_of or earlier.number


def take_over(
    state: Mapping[str, Any],
    requests: Sequence[ProjectRequest],
    answered: Sequence[PastRequest],
    ledger: Ledger,
    say: Callable[[str], None],
) -> None:
    """Let requests that wait have the answers that a person attached to them in the ledger (`expunge ledger attach`).

    Args:
        state: The state of the project.
        requests: Its requests, with their states in the ledger.
        answered: Those that the model has answered.
        ledger: The ledger.
        say: Gets a sentence for each of them.
    """
    runs = {entry["receipt"]: run for run, entry in enumerate(state["models"]) if entry.get("receipt")}
    known = {past.request: past for past in answered}
    for request in (r for r in requests if r.waits and (r.foreign or not r.is_open)):
        entry = ledger.request(request.number)
        run, asked = runs.get(entry.receipt, 0), set(request.what["ids"])
        for earlier in requests if entry.proved and asked else ():
            past = known.get(earlier.request)
            if past and earlier.state != "waiting" and earlier.run == run and asked <= set(past.ids):
                follow(request, earlier, past)
                say(
                    f"request {request.number} was answered in the ledger with run {run}, and the project takes that over."
                )
                break
        else:
            # only a run of the project shows that its models lack the samples
            request.ledger_state = NOT_PROVED
            say(
                f"request {request.number} was closed in the ledger with the receipt {entry.receipt[:11]}, which is not shown to be of a "
                "run of this project for these samples. So it is still open, and no run trains on its samples: `expunge forget --pending` "
                "answers it."
            )
