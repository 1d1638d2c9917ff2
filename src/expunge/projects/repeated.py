"""Requests for samples that an earlier request removed already: they are answered by the earlier run, not by a new one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..data.past_requests import PastRequest, requests_of
from ..data.split import Split
from ..receipts.ledger import Ledger
from ..records.record import Record
from .answered import Answer
from .earlier import earlier_answer, evidence, follow
from .folder import Folder
from .no_effect import NO_EFFECT
from .prepared import Prepared, Say
from .requests import ProjectRequest


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
    ids = request.what["ids"]
    follow(request, earlier, past)
    more = [f"UA and MIA are those of request {request.scores_of}"] if request.scores_of else []
    more += [NO_EFFECT] if request.not_shown else []
    note = f"{'; '.join([text[:-1], *more])}."
    ledger.attach(request.number, ids=ids, note=note, project=True, **files)
    return note


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
            if earlier:
                say(
                    f"request {entry.number} gets a new run, as files that prove run {earlier.run} are missing or were changed; `expunge "
                    "status` names them."
                )
            left.append((entry, split))
    return left, kept


def note_repeats(
    prepared: Prepared, entries: Sequence[ProjectRequest], splits: Sequence[Split], say: Say
) -> None:
    """Tell which requests ask for samples that earlier ones removed already."""
    for entry, split in zip(entries, splits, strict=True):
        if earlier := earlier_of(prepared, entry, split):
            say(
                f"request {entry.number} asks for samples that request {earlier.number} removed already; "
                "`expunge forget --pending` answers it without a new run."
            )


def answer_without_run(
    prepared: Prepared, entries: Sequence[ProjectRequest], splits: Sequence[Split], records: Sequence[Path]
) -> Answer:
    """Return the answer to requests that earlier runs have answered.

    Args:
        prepared: The project.
        entries: The requests.
        splits: Their splits.
        records: Records of the earlier runs.
    """
    hashes = {entry.request for entry in entries}
    past = [p for p in requests_of(prepared.model) if p.request in hashes]
    return Answer([], list(splits), past, kept=(prepared.model, Record.load(records[-1])))
