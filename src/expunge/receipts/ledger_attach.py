"""What is attached to a request of a ledger: check it, and make its rows."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

from ..errors import raise_all
from .attachments import audit_entry, receipt_entry, run_entry
from .deletion import STATUSES, Request, Source, Status
from .ledger_match import matched, part_split, tags
from .limits import text_problems
from .reaudit import later_audits, reopening
from .replay import Book


def attachment(
    book: Book,
    current: Request,
    record: Source | None,
    audit: Source | None,
    receipt: Source | None,
    status: Status | None,
    note: str,
    proof: dict[str, Any],
    known: Mapping[str, Collection[int]],
) -> dict[str, Any]:
    """Make the row of an attachment. `proof` has the secret, the ids and the public key of the receipt.

    `known` has the numbers of requests by the hash of their split, where the caller knows them.

    Raises:
        ExpungeError: Something does not fit. All problems are listed.
    """
    body: dict[str, Any] = {}
    problems = text_problems({"note": note})
    if record is not None:
        body["run"] = run_entry(current, record, problems)
    if audit is not None:
        body["audit"] = audit_entry(current, audit, problems, secret=proof["secret"], ids=proof["ids"])
    if receipt is not None:
        body["receipt"], body["proved"] = receipt_entry(
            current, receipt, record=record, problems=problems, **proof
        )
    elif proof["secret"] is not None or proof["ids"]:
        problems.append("ids and a secret prove something only with a receipt. Give the receipt too.")
    if status is not None:
        if status not in STATUSES:
            problems.append(f"the status {status!r} is unknown. Use one of {', '.join(STATUSES)}.")
        body["status"] = status
    if not problems:
        problems += _audit_problems(current, {**body, "note": note}) + _used_problems(book, current, body)
    if not body:
        problems.append("there is nothing to attach. Give a record, an audit, a receipt or a status.")
    raise_all(problems)
    documents = later_audits(path for path in (record, audit) if path is not None)
    # a record counts once, or a second --audit of the same file would undo a later answer
    later = [a for a in documents if not book.get("document", a["document"])]
    updated = replace(current)
    updated.apply({"note": "", **body})
    if (split := part_split(audit)) and (named := tags((updated.receipt, updated.run), split)):
        body["tags"] = named
    if current.drift is not None and updated.answers - current.answers:
        body["clears_drift"] = True
    return {**body, "note": note, **({"later": matched(book, later, known)} if later else {})}


def reopened_rows(book: Book, number: int, body: dict[str, Any]) -> dict[int, dict[str, Any]]:
    """Make the rows {request: row} that reopen the requests that came back according to an attachment to `number`."""
    rows: dict[int, dict[str, Any]] = {}
    for entry in _returns(body):
        for concerned in book.concerned(entry):
            request = book.request(concerned)
            assert request is not None
            if request.number == number:
                # a new run for this request may leave its samples recognised, too
                request = replace(request)
                request.apply(body)
            running = request.status == "running" and request.answers - request.undone
            if (request.status == "done" or running) and request.number not in rows:
                rows[request.number] = reopening(entry, request.receipt, number)
    if number not in rows and (row := _known_return(book, number, body)):
        rows[number] = row
    return rows


def _known_return(book: Book, number: int, body: dict[str, Any]) -> dict[str, Any] | None:
    """Make the row that reopens a request whose run is attached after an audit that says its samples came back."""
    request = book.request(number)
    assert request is not None
    updated = replace(request)
    updated.apply({**body, "later": ()})
    mention = book.mention(body.get("tags") or updated.answers - request.answers)
    if mention is None or not mention["came_back"] or updated.status not in ("running", "done"):
        return None
    return reopening(mention, updated.receipt, mention["by"])


def unknown_returns(book: Book, body: dict[str, Any]) -> tuple[str, ...]:
    """Describe the earlier requests that came back and that no request of the ledger names."""
    return tuple(
        f"an earlier request of the model came back, and {_unknown(book, e)}: {e['reason']}"
        for e in _returns(body)
        if not book.concerned(e)
    )


def _unknown(book: Book, entry: dict[str, Any]) -> str:
    """Say why no request of the ledger is reopened for one that came back."""
    numbers = book.concerned({name: value for name, value in entry.items() if name != "of"})
    if not numbers:
        return "no request of the ledger has its receipt or run"
    shown = ", ".join(map(str, numbers))
    return (
        f"its run answered several requests of the ledger ({shown}), so none is reopened; reopen the right one with "
        "`expunge ledger attach LEDGER NUMBER --status open`"
    )


def _returns(body: dict[str, Any]) -> list[dict[str, Any]]:
    return [e for audit in body.get("later", ()) for e in audit["entries"] if e["came_back"] is True]


def _audit_problems(current: Request, body: dict[str, Any]) -> list[str]:
    """List what is wrong if the audit of a request would be of another model than the run's."""
    updated = replace(current)
    updated.apply(body)
    if updated.run_split and updated.audit_split and updated.run_split != updated.audit_split:
        return ["the audit is of another forget set than that of the run. Audit the forget set of the run."]
    if not updated.model or not updated.audit_model or updated.model == updated.audit_model:
        return []
    return [
        f"the audit is of another model ({updated.audit_model[:12]}) than the one that the run ended with "
        f"({updated.model[:12]}). Audit the model of the run."
    ]


def _used_problems(book: Book, current: Request, body: dict[str, Any]) -> list[str]:
    """List why a run or a receipt may not answer this request: it came back after it, or it answered another one."""
    problems = []
    receipt = body["receipt"]["id"] if "receipt" in body else ""
    names = {receipt, body["run"]["record"] if "run" in body else ""} - {""}
    if names & current.undone:
        problems.append(
            f"this run answered request {current.number} before, and its samples came back. Attach a new run."
        )
    others = [n for n in book.answered_by(receipt) if n != current.number]
    covered = current.asks and body.get("run", {}).get("covers")
    if others and not body["proved"] and not covered:
        problems.append(
            f"the receipt {receipt} already answers request {others[0]}. A receipt answers a second request only if "
            "its ids are proved: give the ids and the secret, or the receipt of this request."
        )
    return problems
