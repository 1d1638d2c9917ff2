"""Requests for samples that an earlier request removed already: they are answered by the earlier run, not by a new one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..data.past_requests import PastRequest, requests_of
from ..data.split import Split
from ..receipts.ledger import Ledger
from .folder import Folder
from .prepared import Prepared, Say
from .requests import ProjectRequest, audit_file


def covers(past: PastRequest, split: Split) -> bool:
    """Return whether an answered request removed all that a split asks for."""
    asked = split.as_request("")
    if asked.goal == "unlearn" and past.goal != "unlearn":
        return False
    return set(asked.classes) <= set(past.classes) and set(asked.ids) <= set(past.ids)


def earlier_answer(
    split: Split, answered: Sequence[PastRequest], requests: Sequence[ProjectRequest]
) -> ProjectRequest | None:
    """Return the latest request of a project that is done and proved, and removed all that a split asks for, or None."""
    by_hash = {past.request: past for past in answered}
    for request in reversed(requests):
        past = by_hash.get(request.request)
        done = request.state == "done" and not request.is_open
        if past is not None and done and request.run and covers(past, split):
            return request
    return None


def evidence(folder: Folder, state: dict[str, Any], request: ProjectRequest) -> dict[str, Path]:
    """Return record, audit, receipt and secret of an answered request; empty if one of them is missing."""
    entry = state["models"][request.run]
    model = folder.path / entry["file"]
    own = audit_file(model, request.number)
    files = {
        "audit": own if own.is_file() else model.with_suffix(".json"),
        "record": model.with_suffix(".json"),
        "receipt": model.with_suffix(".receipt.json"),
        "secret": model.with_suffix(f".{entry['receipt'][:11]}.secret.json"),
    }
    return files if all(file.is_file() for file in files.values()) else {}


def answer_by(
    ledger: Ledger, request: ProjectRequest, earlier: ProjectRequest, past: PastRequest, files: dict[str, Any]
) -> str:
    """Answer a request by the run that answered an earlier one.

    Args:
        ledger: The ledger. It gets the evidence of the earlier run, and the proof that the ids are in its forget set.
        request: The request.
        earlier: The earlier request.
        past: The earlier request, as the model remembers it.
        files: What `evidence` returned.

    Returns:
        A sentence for the user.
    """
    text = (
        f"request {request.number} asks for samples that request {earlier.number} removed already; run {earlier.run} answers it "
        "too, and nothing is run again."
    )
    ledger.attach(request.number, ids=request.what["ids"], note=text, **files)
    # later audits name the earlier request, and both come back together
    request.state, request.request, request.run = "done", earlier.request, earlier.run
    request.then, request.now = dict(earlier.then), dict(earlier.now)
    request.audited, request.gone = earlier.audited, earlier.gone
    request.keep_part(past)
    return text


def earlier_of(prepared: Prepared, entry: ProjectRequest, split: Split) -> ProjectRequest | None:
    """Return the request whose run answers this one too, or None."""
    if entry.state != "waiting":
        return None
    return earlier_answer(split, requests_of(prepared.model), prepared.requests)


def answer_repeats(
    folder: Folder,
    prepared: Prepared,
    ledger: Ledger,
    entries: Sequence[ProjectRequest],
    splits: Sequence[Split],
    say: Say,
) -> tuple[list[tuple[ProjectRequest, Split]], list[Path]]:
    """Answer the requests whose samples earlier runs removed.

    Returns:
        The other requests with their splits, and the records of the earlier runs.
    """
    left: list[tuple[ProjectRequest, Split]] = []
    kept: list[Path] = []
    known = {past.request: past for past in requests_of(prepared.model)}
    for entry, split in zip(entries, splits, strict=True):
        earlier = earlier_of(prepared, entry, split)
        files = evidence(folder, prepared.state, earlier) if earlier else {}
        if earlier and files:
            say(answer_by(ledger, entry, earlier, known[earlier.request], files))
            kept.append(files["record"])
        else:
            left.append((entry, split))
    return left, kept
