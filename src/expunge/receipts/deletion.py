"""Deletion requests: their state, and what may be attached to them."""

from __future__ import annotations

import hashlib
import hmac
import os
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any, Literal

from .canonical import canonical
from .drift import Drift
from .limits import DEFAULT_LIMITS, Limits, missing_cover

# 28 days are never more than the month of GDPR article 12 (3). Other laws and contracts differ.
DAYS = 28

Status = Literal["open", "running", "done", "refused", "withdrawn"]
CLOSED = ("done", "refused", "withdrawn")
STATUSES = ("open", "running", *CLOSED)

Source = str | os.PathLike[str]


@dataclass
class Request:
    """Hold the current state of one deletion request.

    Dates are ISO days and hashes are 64 hex digits. A text is empty as long as there is no value for it.

    Args:
        number: Number of the request, from 1.
        subject: A reference to the person. Do not use the name: rows cannot be deleted.
        received: Day on which the request came.
        due: Day by which it must be answered.
        ids: Number of sample ids in the request.
        ids_salt: Salt of `ids_hash`, 64 hex digits.
        ids_hash: Salted hash of the sample ids.
        status: State of the request.
        run: Hash of the run's record.
        method: Method of the run.
        model: Hash of the model after the run.
        audit: Hash of the audit's record.
        audit_model: Hash of the audited model.
        run_split: Salted hash of the split of the run.
        audit_split: Salted hash of the split of the audit. It must be that of the run.
        verdict: Words of the audit's verdict.
        receipt: Id of the receipt.
        proved: True if every id of the request was proved to be in the forget set of the receipt.
        asks: Salted hashes of the classes and concepts of the request.
        covered: True if the record of the run says that it removes all of them.
        note: The last note.
        project: Whether a project entered it. `state.json` must have it too.
        scores: Scores of the audit, as the row stores them.
        signer: Public key in the signed receipt, 64 hex digits. Empty if the receipt is unsigned.
        answers: Ids of all its receipts, and hashes of the records of all its runs.
        undone: Those of them that answered it before it was reopened.
        drift: What the latest audit of a later model says of its samples, or None.
        brought_back: Numbers of the requests that came back in its own audit and are not done again.
        reopened: Numbers of the requests that the attachment just made has reopened.
        unknown_returns: Sentences on earlier requests that came back and that no request of the ledger names.
        limits: The limits of the ledger.
        doubt: What the project of the ledger says against the receipt. A ledger knows no models and leaves it empty.
    """

    number: int
    subject: str
    received: str
    due: str
    ids: int = 0
    ids_salt: str = ""
    ids_hash: str = ""
    status: Status = "open"
    run: str = ""
    method: str = ""
    model: str = ""
    audit: str = ""
    audit_model: str = ""
    verdict: str = ""
    receipt: str = ""
    proved: bool = False
    asks: list[str] = field(default_factory=list)
    covered: bool = False
    note: str = ""
    project: bool = False
    scores: dict[str, Any] = field(default_factory=dict)
    signer: str = ""
    run_split: str = ""
    audit_split: str = ""
    answers: frozenset[str] = frozenset()
    undone: frozenset[str] = frozenset()
    drift: Drift | None = None
    brought_back: tuple[int, ...] = ()
    reopened: tuple[int, ...] = ()
    unknown_returns: tuple[str, ...] = ()
    limits: Limits = DEFAULT_LIMITS
    doubt: str = ""

    @property
    def missing(self) -> list[str]:
        """What a done request lacks to be proved. Empty for a request that is not done."""
        if self.status != "done":
            return []
        missing = [] if self.run or self.receipt else ["a run"]
        missing += self.limits.missing_signature(self.signer) if self.receipt else ["a receipt"]
        missing += missing_cover(self.ids, self.proved, len(self.asks), self.covered)
        if not self.audit:
            missing.append("an audit")
        else:
            if not self.model or self.audit_model != self.model:
                missing.append("an audit that names the model of the run")
            missing += self.limits.missing_audit(self.scores, self.verdict)
        missing += [self.doubt] if self.doubt else []
        return missing + [f"a new run for request {n}, which its run brought back" for n in self.brought_back]

    @property
    def state(self) -> str:
        """The status. "done, not proved" for a done request that lacks something."""
        return self.state_with(self.missing)

    def state_with(self, missing: Sequence[str]) -> str:
        """Return `state`, given what `missing` returned: of many requests it is computed once."""
        return "done, not proved" if missing else self.status

    def apply(self, body: dict[str, Any]) -> None:
        """Update the state with one attachment, as the ledger stores it."""
        if "reopened" in body:
            self.run = self.method = self.model = self.receipt = self.signer = ""
            self.audit = self.audit_model = self.verdict = ""
            self.scores, self.proved, self.covered, self.undone = {}, False, False, self.answers
        if "run" in body:
            if body["run"]["record"] not in self.answers:
                # a receipt of another run says nothing of this one
                self.receipt, self.signer, self.proved = "", "", False
            self.run_split = body["run"].get("split", "")
            self.answers |= {body["run"]["record"]}
            self.run, self.method = body["run"]["record"], body["run"]["method"]
            self.model = body["run"].get("model", "")
            self.covered = body["run"].get("covers", False)
            self.status = "running" if self.status == "open" else self.status
        if "audit" in body:
            self.audit, self.verdict = body["audit"]["record"], body["audit"]["verdict"]
            self.audit_model = body["audit"].get("model", "")
            self.audit_split = body["audit"].get("split", "")
            self.scores = body["audit"].get("scores") or {}
        if "receipt" in body:
            key = body["receipt"]["envelope"]["key"]
            self.signer = key["public"] if key and body["receipt"]["signature"] != "unsigned" else ""
            self.answers |= {body["receipt"]["id"], body["receipt"]["statement"]["record"]}
            self.receipt, self.proved, self.status = body["receipt"]["id"], body["proved"], "done"
            self.method = body["receipt"]["statement"]["method"]
            self.model = body["receipt"]["statement"]["model_after"]
        self.status = body.get("status", self.status)
        self.note = body["note"] or self.note

    def is_overdue(self, today: date, missing: Sequence[str] | None = None) -> bool:
        """Return True if the due day is before `today` and the request is not closed, or done but not proved.

        Args:
            today: The day to compare with.
            missing: What `missing` returned, if it is known.
        """
        if date.fromisoformat(self.due) >= today:
            return False
        return self.status not in CLOSED or bool(self.missing if missing is None else missing)


def nfc(ids: Sequence[str]) -> set[str]:
    """Return the different ids, each in Unicode normal form NFC."""
    return {unicodedata.normalize("NFC", name) for name in ids}


def salted(salt: str, text: str) -> str:
    """Compute a salted hash (64 hex digits) of a text, such as the hash of a split. Empty for an empty text."""
    return hmac.new(bytes.fromhex(salt), text.encode(), hashlib.sha256).hexdigest() if text else ""


def asked_hashes(salt: str, classes: Sequence[str], concept: str) -> list[str]:
    """Return the salted hashes (64 hex digits) of classes and of a concept, in ascending order."""
    names = {f"class {name}" for name in nfc(classes)} | {
        f"concept {name}" for name in nfc([concept]) if name
    }
    return sorted(salted(salt, name) for name in names)


def ids_hash(salt: str, ids: Sequence[str]) -> str:
    """Compute a salted hash (64 hex digits) of a set of ids. Their order does not matter."""
    return hmac.new(bytes.fromhex(salt), canonical(sorted(nfc(ids))), hashlib.sha256).hexdigest()
