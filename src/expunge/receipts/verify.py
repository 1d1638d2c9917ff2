"""Checks of a receipt: each with its outcome in words, and no more said than the check shows."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from ..errors import ExpungeError, MissingExtra
from ..hashing import load_weights, model_hash
from ..record import Record
from .canonical import parse, sha256
from .keys import fingerprint, load_public, signed_by
from .merkle import Proof, Secret
from .receipt import KIND, SCHEMA, STATEMENT, Model, Receipt, mask_hash, messages, record_hash
from .receipt import split_commitment as committed_split

_DIGEST = re.compile(r"[0-9a-f]{64}\Z")
_SIGNATURE = re.compile(r"[0-9a-f]{128}\Z")
_ID = re.compile(r"ul-[A-Z2-7]{26}\Z")


@dataclass(frozen=True)
class Check:
    """One thing that was looked at: its name, whether it held, and what that means in words."""

    name: str
    ok: bool
    words: str

    @classmethod
    def of(cls, name: str, ok: bool, held: str, failed: str) -> Self:
        """The check with the words for its outcome."""
        return cls(name, ok, held if ok else failed)


def verify(
    receipt: Receipt | bytes | str | os.PathLike[str],
    model: Model | None = None,
    record: Record | str | os.PathLike[str] | None = None,
    prove: str | Proof | None = None,
    public_key: str | os.PathLike[str] | bytes | None = None,
    *,
    original: Model | None = None,
    mask: Mapping[str, Tensor] | None = None,
    secret: Secret | None = None,
    parent: Receipt | str | os.PathLike[str] | None = None,
) -> list[Check]:
    """Everything that can be checked of `receipt` (a file, or its bytes); it holds if every check is `ok`.

    `model` and `original`: the weights after and before (module, state dictionary or file). `record`: the
    run's record. `prove`: a proof, or an id, which needs `secret`. `public_key`: the key of the signer you
    trust (32 bytes, 64 hex digits or PEM file); without it only the key in the receipt can be used, which
    shows that nothing changed since signing but not who signed. `parent`: the receipt of the run before. A
    broken file is a failed check, not an exception.
    """
    checks, found = _read(receipt)
    if found is None:
        return checks
    checks += [_statement(found.statement), _envelope(found.envelope)]
    if not all(check.ok for check in checks):  # nothing in such a receipt can be relied on, signature or not
        return checks
    checks.append(_signature(found, public_key))
    said = found.statement
    hashed: list[tuple[str, str, Any, str | None, Callable[[Any], str]]] = [
        ("model", "the model after the run", model, said["model_after"], model_hash),
        ("original", "the model before the run", original, said["model_before"], model_hash),
        ("record", "the record of the run", record, said["record"], record_hash),
        ("mask", "the mask", mask, said["mask"], mask_hash),
        ("secret", "the secret of this receipt", secret, said["forget_commitment"], lambda s: s.commitment),
    ]
    checks += [
        _same(name, what, given, wanted, hasher)
        for name, what, given, wanted, hasher in hashed
        if given is not None
    ]
    if secret is not None and record is not None and said["split_commitment"] is not None:
        checks.append(
            _same(
                "split",
                "the split of the run",
                record,
                said["split_commitment"],
                lambda r: committed_split(secret, _split_hash(r)),
            )
        )
    if mask is not None and model is not None and original is not None:
        checks.append(_guarded("kept", lambda: _kept(original, model, mask)))
    if prove is not None:
        checks.append(_guarded("proof", lambda: _proof(found, prove, secret)))
    if parent is not None:
        checks.append(_guarded("parent", lambda: _parent(found, parent)))
    return checks


def _read(source: Receipt | bytes | str | os.PathLike[str]) -> tuple[list[Check], Receipt | None]:
    """The receipt, and whether its file has the only form and the only digests that its content can have."""
    try:
        if isinstance(source, str | os.PathLike):
            data = Path(source).read_bytes()
        else:
            data = source.to_bytes() if isinstance(source, Receipt) else source
        values = parse(data)
        receipt = Receipt.of(values)
        whole = receipt.to_bytes()
    except (OSError, ExpungeError) as error:
        return [Check("form", False, f"not a readable receipt: {error}")], None
    return [
        Check.of(
            "form",
            data == whole,
            "every byte is as the content requires",
            "the file is not written as receipts are: it was changed or re-formatted",
        ),
        _equal("digest", values["sha256"], receipt.digest, "the statement is the one that was hashed"),
        _equal("id", values["id"], receipt.id, f"{receipt.id} is the name of this statement"),
        _equal(
            "envelope digest",
            values["envelope_sha256"],
            sha256(receipt.envelope),
            "date, machine and key are the ones that were hashed",
        ),
    ], receipt


def _statement(said: dict[str, Any]) -> Check:
    """Whether it has exactly the entries of this schema, in their types."""
    problems = [f"`{k}` is missing" for k in STATEMENT if k not in said]
    problems += [f"`{k}` is unknown" for k in said if k not in STATEMENT]
    problems += [
        f"`{k}` is a {type(said[k]).__name__}"
        for k, kinds in STATEMENT.items()
        if k in said and type(said[k]) not in kinds
    ]
    if not problems:
        problems = _unfit(said)
    return Check.of(
        "statement",
        not problems,
        "; ".join(problems) if problems else f"{said['method']} on {said['forget_count']} forgotten ids",
        "; ".join(problems),
    )


def _unfit(said: dict[str, Any]) -> list[str]:
    """What is wrong with the values of a statement whose types are right."""
    problems = []
    if said["schema"] != SCHEMA:
        problems.append(f"its schema is {said['schema']}, this version reads {SCHEMA}")
    if said["kind"] != KIND:
        problems.append(f"its kind is {said['kind']!r}, not {KIND!r}")
    hashes = ("model_before", "model_after", "record", "forget_commitment", "split_commitment", "mask")
    problems += [
        f"`{k}` is not 64 hex digits" for k in hashes if said[k] is not None and not _DIGEST.match(said[k])
    ]
    if said["parent"] is not None and not _ID.match(said["parent"]):
        problems.append("`parent` is not the id of a receipt")
    if (said["forget_commitment"] is None) != (said["forget_count"] == 0) or said["forget_count"] < 0:
        problems.append("`forget_count` does not fit the commitment")
    return problems


def _envelope(envelope: dict[str, Any]) -> Check:
    key = envelope.get("key")
    good = (
        set(envelope) == {"created", "machine", "key"}
        and isinstance(envelope["created"], str)
        and isinstance(envelope["machine"], dict)
    )
    if good and key is not None:
        good = (
            isinstance(key, dict)
            and set(key) == {"algorithm", "public", "fingerprint"}
            and key["algorithm"] == "ed25519"
            and isinstance(key["public"], str)
            and bool(_DIGEST.match(key["public"]))
            and key["fingerprint"] == fingerprint(bytes.fromhex(key["public"]))
        )
    return Check.of(
        "envelope",
        good,
        f"issued {envelope.get('created')}, as the issuer says",
        "date, machine and key are not as receipts have them",
    )


def _signature(receipt: Receipt, pinned: str | os.PathLike[str] | bytes | None) -> Check:
    """Whether both parts are signed, by the pinned key or, failing that, by the one the receipt carries."""
    carried, name = receipt.envelope["key"], "signature"
    if receipt.signature is None and carried is not None:
        return Check(name, False, "a key is named but the signature is gone: it was removed")
    if receipt.signature is None:
        return Check.of(
            name,
            pinned is None,
            "unsigned: it fits together, but anyone could have written it",
            "unsigned, and a key was asked for",
        )
    if carried is None:
        return Check(name, False, "signatures are there but no key is named")
    try:
        raw = bytes.fromhex(carried["public"]) if pinned is None else load_public(pinned)
        good = all(
            _SIGNATURE.match(text) is not None and signed_by(raw, bytes.fromhex(text), message)
            for text, message in ((receipt.signature[k], m) for k, m in messages(receipt).items())
        )
    except MissingExtra as error:
        return Check(name, False, f"signed, but not checked: {error}")
    except ExpungeError as error:
        return Check(name, False, str(error))
    if pinned is not None:
        return Check.of(
            name,
            good,
            f"signed by the key you gave, {fingerprint(raw)}",
            f"not signed by the key you gave, {fingerprint(raw)}; the receipt names {carried['fingerprint']}",
        )
    return Check.of(
        name,
        good,
        f"signed by the key it carries itself, {fingerprint(raw)}: unchanged since, but give "
        "the signer's public key to learn who signed",
        "the signature is not of this receipt and the key it carries",
    )


def _proof(receipt: Receipt, prove: str | Proof, secret: Secret | None) -> Check:
    if isinstance(prove, str):
        if secret is None:
            return Check("proof", False, f"to prove the id {prove!r} the holder's secret is needed: give it")
        if prove not in secret:
            return Check("proof", False, f"the id {prove!r} is not among the {len(secret.leaves)} forgotten")
        prove = secret.prove(prove)
    commitment, count = receipt.statement["forget_commitment"], receipt.statement["forget_count"]
    among = f"that the id {prove.name!r} is among the {count} forgotten ids of this receipt"
    return Check.of(
        "proof",
        commitment is not None and prove.holds(commitment, count),
        f"shown {among}",
        f"nothing shows {among}",
    )


def _parent(receipt: Receipt, source: Receipt | str | os.PathLike[str]) -> Check:
    parent, said = source if isinstance(source, Receipt) else Receipt.load(source), receipt.statement
    good = said["parent"] == parent.id and said["model_before"] == parent.statement.get("model_after")
    return Check.of(
        "parent",
        good,
        f"this run started from the model that {parent.id} ended with",
        f"{parent.id} is not the run before this one, or this one started from another model",
    )


def _kept(before: Model, after: Model, mask: Mapping[str, Tensor]) -> Check:
    """Whether the weights that the mask holds fixed are the same bits before and after."""
    old, new, moved = load_weights(before), load_weights(after), 0
    for name, free in mask.items():
        changed = (_bits(old[name]) != _bits(new[name])).any(1)
        moved += int(changed[~free.bool().cpu().reshape(-1)].sum())
    return Check.of(
        "kept",
        moved == 0,
        "no weight outside the mask has changed",
        f"{moved} weights outside the mask have changed",
    )


def _bits(tensor: Tensor) -> Tensor:
    """The bytes of each number of `tensor` (numel, bytes): NaN equals itself, -0.0 does not equal 0.0."""
    return tensor.detach().cpu().contiguous().reshape(-1, 1).view(torch.uint8)


def _split_hash(record: Record | str | os.PathLike[str]) -> str:
    return (record if isinstance(record, Record) else Record.load(record)).split["hash"]


def _same(name: str, what: str, given: Any, wanted: str | None, hasher: Callable[[Any], str]) -> Check:
    """Whether `given` has the hash that the receipt says."""
    if wanted is None:
        return Check(name, False, f"the receipt says nothing of {what}")
    return _guarded(
        name, lambda: _equal(name, wanted, hasher(given), f"this is {what}", f"this is not {what}")
    )


def _equal(name: str, wanted: Any, got: Any, held: str, failed: str = "changed") -> Check:
    return Check.of(name, wanted == got, held, f"{failed}: it says {wanted}, found {got}")


def _guarded(name: str, check: Callable[[], Check]) -> Check:
    """The check, or a failed one in the words of the error that stopped it."""
    try:
        return check()
    except (ExpungeError, KeyError, RuntimeError, ValueError) as error:
        return Check(name, False, f"could not be checked: {error}")
