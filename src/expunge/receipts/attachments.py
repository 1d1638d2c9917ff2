"""What may be attached to a deletion request: a run, an audit, a receipt. Each is checked before the ledger stores it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..records.record import Record, plain
from .canonical import parse
from .commitment import Secret
from .deletion import Request, Source, ids_hash, salted
from .issue import record_hash
from .receipt import Receipt
from .verify import verify

# Kinds of run that remove something, so they can answer a request.
ANSWERS = ("unlearn", "retrain", "erase")


def receipt_entry(
    request: Request,
    path: Source,
    *,
    record: Source | None,
    secret: Source | None,
    ids: Sequence[str],
    public_key: Source | bytes | None,
    problems: list[str],
) -> tuple[dict[str, Any], bool]:
    """Verify a receipt and make the entry that the ledger stores for it.

    Args:
        request: The request that the receipt answers.
        path: File of the receipt.
        record: File of the run's record.
        secret: File of the receipt's secret. Needed to prove `ids`.
        ids: The ids of the request, to prove that they are in the forget set.
        public_key: Public key that must have signed the receipt.
        problems: Receives one sentence for each reason why the receipt may not be attached.

    Returns:
        The content of the receipt, and whether it was proved to cover `ids`.
    """
    opened = Secret.load(secret) if secret is not None else None
    checks = verify(path, record=record, public_key=public_key, secret=opened)
    if public_key is not None:
        # the ledger later trusts the key that the receipt names, so that one must have signed too
        checks += verify(path)
    problems += list(dict.fromkeys(f"{path}: {check.message}." for check in checks if not check.ok))
    if problems:
        return {}, False
    receipt = Receipt.load(path)
    run_kind = receipt.statement["run"]
    if run_kind not in ANSWERS:
        problems.append(
            f"{path} is the receipt of a run of the kind {run_kind!r}; only {', '.join(ANSWERS)} answer a request."
        )
    if request.run and record is None and receipt.statement["record"] != request.run:
        problems.append(f"{path} belongs to another run than the one attached to request {request.number}.")
    if (opened is None) != (not ids):
        problems.append("to prove that ids are in the forget set, give both the ids and the secret.")
    if ids and ids_hash(request.ids_salt, ids) != request.ids_hash:
        problems.append(f"these are not the {request.ids} ids of request {request.number}. Give its ids.")
    if opened is not None and not problems:
        problems += [
            f"the id {name!r} is not among the {len(opened.leaves)} forgotten ids."
            for name in ids
            if name not in opened
        ]
    return parse(receipt.to_bytes()), bool(ids)


def run_entry(request: Request, path: Source, problems: list[str]) -> dict[str, Any]:
    """Make the entry that the ledger stores for a run, from the file of its record.

    `problems` receives one sentence for each reason why the run may not be attached.
    """
    record = Record.load(path)
    if record.kind not in ANSWERS:
        problems.append(
            f"{path} is a record of the kind {record.kind!r}; only {', '.join(ANSWERS)} answer a request."
        )
    if record.ended in ("diverged", "unchanged"):
        problems.append(f"the run of {path} {record.status}. Attach a run that finished.")
    return {
        "record": record_hash(path),
        "method": record.method,
        "kind": record.kind,
        "status": record.status,
        "model": str(record.model.get("hash_after") or ""),
        "split": salted(request.ids_salt, str(record.split.get("hash") or "")),
    }


def audit_entry(request: Request, path: Source) -> dict[str, Any]:
    """Make the entry that the ledger stores for an audit, from the file of its record."""
    record = Record.load(path)
    verdict = record.details.get("verdict", "")
    words = verdict.get("words", "") if isinstance(verdict, dict) else verdict
    return {
        "record": record_hash(path),
        "model": str(record.model.get("hash_after") or ""),
        "split": salted(request.ids_salt, str(record.split.get("hash") or "")),
        "scores": plain(record.scores),
        "verdict": ", ".join(map(str, words)) if isinstance(words, list) else str(words),
    }
