"""One deletion request: how it stands, and what may be attached to it."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import unicodedata
from calendar import monthrange
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any, Literal

from ..errors import raise_all
from ..records.record import Record, plain
from .canonical import canonical, parse
from .merkle import Secret
from .receipt import Receipt, record_hash
from .verify import verify

DAYS = 28  # never later than the month of GDPR article 12 (3); other laws and contracts differ
LONGEST = 3650  # days that an answer may take
ANSWERS = ("unlearn", "retrain", "erase")  # kinds of run that remove something

Status = Literal["open", "running", "done", "refused", "withdrawn"]
CLOSED = ("done", "refused", "withdrawn")
STATUSES = ("open", "running", *CLOSED)

Source = str | os.PathLike[str]


@dataclass
class Request:
    """One deletion request as it stands. Dates are ISO days, hashes 64 hex digits, "" where none is yet."""

    number: int
    subject: str  # a reference to the person, better not the name: rows cannot be deleted
    received: str
    due: str
    ids: int = 0  # how many sample ids were named
    ids_salt: str = ""
    ids_hash: str = ""
    status: Status = "open"
    run: str = ""  # hash of the run's record
    method: str = ""
    model: str = ""  # hash of the weights that the run ended with
    audit: str = ""  # hash of the audit's record
    audit_model: str = ""  # hash of the weights that it looked at
    verdict: str = ""
    receipt: str = ""  # its id
    proved: bool = False  # every id of the request was shown to be in the receipt's forget set
    note: str = ""

    def apply(self, body: dict[str, Any]) -> None:
        """Bring the request up to date with one attachment, as the ledger keeps it."""
        if "run" in body:
            self.run, self.method = body["run"]["record"], body["run"]["method"]
            self.model = body["run"].get("model", "")
            self.status = "running" if self.status == "open" else self.status
        if "audit" in body:
            self.audit, self.verdict = body["audit"]["record"], body["audit"]["verdict"]
            self.audit_model = body["audit"].get("model", "")
        if "receipt" in body:
            self.receipt, self.proved, self.status = body["receipt"]["id"], body["proved"], "done"
            self.method = body["receipt"]["statement"]["method"]
            self.model = body["receipt"]["statement"]["model_after"]
        self.status = body.get("status", self.status)
        self.note = body["note"] or self.note

    def is_overdue(self, today: date) -> bool:
        """True if it is still to be answered and its day has passed."""
        return self.status not in CLOSED and date.fromisoformat(self.due) < today


def a_month_after(day: date) -> date:
    """The same day of the next month, or that month's last."""
    year, month = (day.year, day.month + 1) if day.month < 12 else (day.year + 1, 1)
    return date(year, month, min(day.day, monthrange(year, month)[1]))


def entered(
    subject: str, ids: Sequence[str] = (), received: str = "", due: str = "", days: int = DAYS, note: str = ""
) -> dict[str, Any]:
    """What the ledger keeps of a new request, as `Ledger.add` describes it. Raises `ExpungeError`, all problems listed."""
    problems = []
    if not subject.strip():
        problems.append("the subject is empty; give a reference that you can trace to the person.")
    if len(nfc(ids)) < len(ids):
        problems.append("an id is there twice; give each once.")
    start = _day("received", received, problems) or datetime.now(UTC).date()
    if not 0 <= days <= LONGEST:
        problems.append(f"days is {days}; give 0 to {LONGEST}.")
    end = _day("due", due, problems) or start + timedelta(days=min(max(0, days), LONGEST))
    if end < start:
        problems.append(f"due on {end} is before received on {start}.")
    raise_all(problems)
    salt = secrets.token_hex(32)
    return {
        "subject": subject.strip(),
        "received": start.isoformat(),
        "due": end.isoformat(),
        "ids": len(ids),
        "ids_salt": salt,
        "note": note,
        "ids_hash": ids_hash(salt, ids) if ids else "",
    }


def fitting_receipt(
    request: Request,
    path: Source,
    *,
    record: Source | None,
    secret: Source | None,
    ids: Sequence[str],
    public_key: Source | bytes | None,
    problems: list[str],
) -> tuple[dict[str, Any], bool]:
    """The content of a receipt that may be attached to `request`, and whether it was shown to cover `ids`.

    What does not fit goes to `problems`, one sentence each.
    """
    opened = Secret.load(secret) if secret is not None else None
    checks = verify(path, record=record, public_key=public_key, secret=opened)
    problems += [f"{path}: {check.words}." for check in checks if not check.ok]
    if problems:
        return {}, False
    found = Receipt.load(path)
    if found.statement["run"] not in ANSWERS:
        problems.append(
            f"{path} is the receipt of a run of the kind {found.statement['run']!r}; what answers a request is one of {', '.join(ANSWERS)}."
        )
    if request.run and record is None and found.statement["record"] != request.run:
        problems.append(f"{path} is for another run than the one attached to request {request.number}.")
    if (opened is None) != (not ids):
        problems.append("to prove that ids are in the forget set, both the ids and the secret are needed.")
    if ids and ids_hash(request.ids_salt, ids) != request.ids_hash:
        problems.append(f"these are not the {request.ids} ids of request {request.number}.")
    if opened is not None and not problems:
        problems += [
            f"the id {name!r} is not among the {len(opened.leaves)} that were forgotten."
            for name in ids
            if name not in opened
        ]
    return parse(found.to_bytes()), bool(ids)


def ran(path: Source, problems: list[str]) -> dict[str, Any]:
    """What the ledger keeps of a run: its record's hash, how it ended, and with which model."""
    run = Record.load(path)
    if run.kind not in ANSWERS:
        problems.append(
            f"{path} is of the kind {run.kind!r}; what answers a request is one of {', '.join(ANSWERS)}."
        )
    if run.ended == "diverged":
        problems.append(f"the run of {path} {run.status}; attach one that ended well.")
    model = str(run.model.get("hash_after") or "")
    return {
        "record": record_hash(path),
        "method": run.method,
        "kind": run.kind,
        "status": run.status,
        "model": model,
    }


def audited(path: Source) -> dict[str, Any]:
    """What the ledger keeps of an audit: its record's hash, the model it looked at, the scores, the verdict in words."""
    audit = Record.load(path)
    verdict = audit.details.get("verdict", "")
    words = verdict.get("words", "") if isinstance(verdict, dict) else verdict
    told = ", ".join(map(str, words)) if isinstance(words, list) else str(words)
    model = str(audit.model.get("hash_after") or "")
    return {"record": record_hash(path), "model": model, "scores": plain(audit.scores), "verdict": told}


def nfc(ids: Sequence[str]) -> set[str]:
    """The different ids, in Unicode normal form NFC."""
    return {unicodedata.normalize("NFC", name) for name in ids}


def ids_hash(salt: str, ids: Sequence[str]) -> str:
    """A salted hash (64 hex digits) of a set of ids, in any order."""
    return hmac.new(bytes.fromhex(salt), canonical(sorted(nfc(ids))), hashlib.sha256).hexdigest()


def _day(name: str, text: str, problems: list[str]) -> date | None:
    """The day that `text` names, None for no text; what is wrong with it goes to `problems`."""
    try:
        return date.fromisoformat(text) if text else None
    except ValueError:
        problems.append(f"{name} is {text!r}; write a day as 2026-01-31.")
        return None
