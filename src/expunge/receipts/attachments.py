"""What may be attached to a deletion request: a run, an audit, a receipt. Each is checked before the ledger stores it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..records.record import Record, plain
from .canonical import parse
from .commitment import Secret
from .deletion import Request, Source, asked_hashes, ids_hash, nfc, salted
from .issue import record_hash
from .receipt import Receipt
from .verify import verify

# Kinds of run that remove something, so they can answer a request.
ANSWERS = ("unlearn", "retrain", "erase")
# Verdict words of an audit that says what stands against a conclusion, and has no verdict.
_GROUNDS = {"unchanged": "unchanged", "reference": "no conclusion", "over_forgotten": "over-forgotten"}


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
    covers = set(request.asks) <= _removed(request.ids_salt, record)
    if not covers:
        problems.append(
            f"the run of {path} does not remove all {len(request.asks)} classes or concepts of request {request.number}. Attach a "
            "run that does."
        )
    return {
        **({"covers": covers} if request.asks else {}),
        "record": record_hash(path),
        "method": record.method,
        "kind": record.kind,
        "status": record.status,
        "model": str(record.model.get("hash_after") or ""),
        "split": salted(request.ids_salt, str(record.split.get("hash") or "")),
    }


def _removed(salt: str, record: Record) -> set[str]:
    """Return the salted hashes of the classes and of the concept that a run removes according to its record."""
    erasure, names = record.details.get("erasure"), record.data.get("classes")
    if record.kind == "erase":
        concept = erasure.get("concept") if isinstance(erasure, dict) else None
        return set(asked_hashes(salt, (), concept if isinstance(concept, str) else ""))
    numbers = record.split.get("forget_classes")
    if record.goal != "unlearn" or not isinstance(numbers, list):
        return set()
    known = names if isinstance(names, list) else []
    removed: set[str] = set()
    for number in (n for n in numbers if type(n) is int):
        name = str(known[number]) if 0 <= number < len(known) else ""
        # a text is a number only if no class has that name
        removed |= {name, *([] if str(number) in map(str, known) else [str(number)])} - {""}
    return set(asked_hashes(salt, sorted(removed), ""))


def _is_number(value: Any) -> bool:
    return type(value) in (int, float)


def score_problems(where: str, scores: dict[str, Any]) -> list[str]:
    """Return which scores are no percentages, one sentence each. None stands for a score that was not measured."""
    problems = [
        f"{where} has {name} {scores[name]!r}; allowed are percentages from 0 to 100. Give the record that `expunge audit` wrote."
        for name in ("UA", "MIA", "RA", "TA")
        if scores.get(name) is not None and not (_is_number(scores[name]) and 0 <= scores[name] <= 100)
    ]
    gap = scores.get("gap")
    if gap is not None and not (
        isinstance(gap, dict) and all(v is None or _is_number(v) for v in gap.values())
    ):
        problems.append(
            f"{where} has a gap that is no table of numbers. Give the record that `expunge audit` wrote."
        )
    return problems


def _verdict_words(path: Source, record: Record, problems: list[str]) -> str:
    """Return the words of an audit's verdict, or those that follow from what stands against a conclusion."""
    verdict = record.details.get("verdict", "")
    words = verdict.get("words", []) if isinstance(verdict, dict) else verdict
    if isinstance(words, list) and all(isinstance(word, str) for word in words):
        words = ", ".join(words)
    if not isinstance(words, str):
        problems.append(
            f"the verdict of {path} is no list of words. Give the record that `expunge audit` wrote."
        )
        return ""
    grounds = record.details.get("grounds")
    against = [word for name, word in _GROUNDS.items() if isinstance(grounds, dict) and grounds.get(name)]
    return words or ", ".join(against)


def part_of(request: Request, split: str, ids: Sequence[str], secret: Secret) -> dict[str, Any]:
    """Return what the audit of one request among several of a run says of its request. It reveals no id.

    Args:
        request: The request of the ledger.
        split: Hash of the split of the request.
        ids: Ids of the samples that were audited.
        secret: The secret of the run's receipt.
    """
    # the salt of a request is its own, so no other request has this hash
    return {"owner": salted(request.ids_salt, split), "places": secret.places(ids)}


def _part_problem(
    request: Request, path: Source, part: Any, secret: Source | None, ids: Sequence[str]
) -> str:
    """Return why the audit of a part of a run is that of another request. Empty if it is not.

    It belongs to the request that it names. A request for some of the same samples may have it if it proves its ids.
    """
    part = part if isinstance(part, dict) else {}
    split, places = part.get("request"), part.get("places")
    if isinstance(split, str) and split and part.get("owner") == salted(request.ids_salt, split):
        return ""
    if secret is not None and ids and isinstance(places, list):
        found = Secret.load(secret).places(ids)
        if len(found) == len(nfc(ids)) and set(found) <= {n for n in places if type(n) is int}:
            return ""
    return (
        f"{path} is the audit of another request of its run than request {request.number}. Attach the audit of this request, or "
        "answer it with a new run."
    )


def audit_entry(
    request: Request,
    path: Source,
    problems: list[str],
    *,
    secret: Source | None = None,
    ids: Sequence[str] = (),
) -> dict[str, Any]:
    """Make the entry that the ledger stores for an audit, from the file of its record.

    `problems` receives one sentence for each reason why the audit may not be attached. `secret` and `ids` prove that the
    audit of another request of the run covers the ids of this one.
    """
    record = Record.load(path)
    if "part" in record.details and (
        text := _part_problem(request, path, record.details["part"], secret, ids)
    ):
        problems.append(text)
    problems += score_problems(str(path), record.scores)
    words = _verdict_words(path, record, problems)
    return {
        "record": record_hash(path),
        "model": str(record.model.get("hash_after") or ""),
        "split": salted(request.ids_salt, str(record.split.get("hash") or "")),
        "scores": plain(record.scores),
        "verdict": words,
    }
