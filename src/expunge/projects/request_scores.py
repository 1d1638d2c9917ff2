"""The scores of requests: in the record of their run, and in the audits of later runs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from ..audit.earlier_requests import not_scored
from ..data.past_requests import PastRequest
from ..records.record import Record, plain
from ..records.statistics import contradicted
from .parts import Part
from .requests import ProjectRequest
from .words import rewrite


def described(parts: Sequence[Part], earlier: int, exact: bool) -> list[dict[str, Any]]:
    """Return one entry per request of a run, for `Record.details["requests"]`.

    Args:
        parts: The requests that the run answers.
        earlier: Number of requests that the model had answered before. The numbers go on from there.
        exact: Whether the method trains a new model without the samples, so that no figure has to show it.
    """
    entries = []
    for number, part in enumerate(parts, earlier + 1):
        change = None if exact else part.confidence
        entry = {
            "number": number,
            "request": part.split.request,
            "scenario": part.split.scenario,
            "goal": part.split.goal,
            "samples": len(part.split.forget),
            "verdict": part.verdict["words"],
            "unreliable_mia": contradicted(part.own.scores),
            "warning": change.warning if change is not None else "",
            "confidence": change.to_dict() if change is not None else None,
            # earlier requests removed all samples of this one, so no run of its own is there to compare
            "unmeasured": change is None and not exact and part.split.goal == "untrain",
        }
        roles = {"": part.own, "_before": part.original, "_retrained": part.retrained}
        for ending, evaluation in roles.items():
            scores = {} if evaluation is None else evaluation.scores
            entry |= {f"{name}{ending}": scores.get(name) for name in ("UA", "MIA")}
        entries.append(plain(entry))
    return entries


def renumber(
    record: Record,
    requests: Sequence[ProjectRequest],
    answered: Iterable[tuple[ProjectRequest, PastRequest]],
    declined: Sequence[ProjectRequest] = (),
) -> None:
    """Give the requests in a record the numbers of a project, also in sentences, and its advice the words of a project.

    `status` and ledger name requests by these numbers. One of an earlier project, which they do not have, is named by its
    receipt. An earlier request also gets what its own audit said of it, and any request the numbers of those that repeat it.

    Args:
        record: The record of a run.
        requests: The requests of the project.
        answered: Those that the run answers, as the model remembers them.
        declined: Those that it does not answer.
    """
    rewrite(record)
    record.details["numbers"] = "ledger"
    for entry, request in zip(record.details.get("declined") or (), declined, strict=False):
        entry["number"] = request.number
    # of several requests for the same samples, the first one
    numbers = {split: own[0] for split, own in numbers_of(requests).items()}
    answered = list(answered)
    numbers |= {past.request: request.number for request, past in answered}
    # those of the run have the order of `answered`, and two of them may have the same samples
    own = [request.number for request, _ in answered]
    details = record.details
    before = not_scored(details.get("earlier_requests") or ())
    for name in ("earlier_requests", "requests"):
        for at, entry in enumerate(details.get(name) or ()):
            old = entry["number"]
            new = numbers.get(entry["request"]) or entry.get("receipt") or f"{old} of the model's file"
            if name == "requests" and at < len(own):
                new = own[at]
            entry["number"] = new
            same = [r for r in requests if r.request and r.request == entry["request"]]
            if name == "earlier_requests" and same:
                entry["not_shown"] = any(r.not_shown for r in same)
                entry["unreliable_mia"] = any(r.unreliable_mia for r in same)
            if repeated := [r.number for r in same if r.number != new]:
                entry["repeated"] = repeated
            if reason := entry.get("reason"):
                entry["reason"] = reason.replace(f"of request {old} is", f"of request {new} is", 1)
                texts = details.get("limits") or []
                details["limits"] = [t.replace(reason, entry["reason"]) for t in texts]
    after = not_scored(details.get("earlier_requests") or ())
    renamed = dict(zip(before, after, strict=True))
    if renamed:
        details["limits"] = [renamed.get(text, text) for text in details.get("limits") or ()]


def numbers_of(requests: Iterable[ProjectRequest]) -> dict[str, list[int]]:
    """Return {hash of a split: numbers of the requests that it belongs to}."""
    numbers: dict[str, list[int]] = {}
    for request in requests:
        for split in (*request.before, request.request):
            numbers.setdefault(split, []).append(request.number)
    return numbers


def apply_audit(
    requests: Sequence[ProjectRequest], earlier: Sequence[dict[str, Any]], run: int
) -> list[ProjectRequest]:
    """Write the scores of an audit on the requests that were answered before.

    Args:
        requests: The requests.
        earlier: What the audit says of earlier requests (`Answer.earlier`).
        run: Number of the run that it followed.

    Returns:
        The requests that came back.
    """
    scores = {entry["request"]: entry for entry in earlier}
    returned = []
    for request in requests:
        entry = scores.get(request.request)
        if entry is None or request.state == "waiting":
            continue
        if entry["UA"] is None:
            # the data has none of its samples: the scores of the last audit stay
            continue
        request.now = {name: entry[name] for name in ("UA", "MIA") if entry[name] is not None}
        request.audited = run
        # also of the samples that its last run lacked
        back = [e for e in (entry, *map(scores.get, request.before)) if e is not None and e["came_back"]]
        if back:
            request.state, request.reason = "came back", back[0]["reason"]
            returned.append(request)
    return returned
