"""Checks of a receipt: each with its outcome in words, and no more said than the check shows."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .canonical import parse
from .errors import ExpungeError, MissingExtra
from .hashing import load_weights, model_hash
from .keys import fingerprint, load_public, signed_by
from .merkle import Proof, Secret
from .receipt import KIND, SCHEMA, STATEMENT, Model, Receipt, mask_hash, messages, record_hash, split_commitment
from .record import Record

_DIGEST = re.compile(r"[0-9a-f]{64}\Z")
_ID = re.compile(r"ul-[A-Z2-7]{26}\Z")


@dataclass(frozen=True)
class Check:
    """One thing that was looked at: its name, whether it held, and what that means in words."""

    name: str
    ok: bool
    words: str


def verify(receipt: Receipt | bytes | str | os.PathLike[str], model: Model | None = None,
           record: Record | str | os.PathLike[str] | None = None, prove: str | Proof | None = None,
           public_key: str | os.PathLike[str] | bytes | None = None, *, original: Model | None = None,
           mask: Mapping[str, Tensor] | None = None, secret: Secret | None = None,
           parent: Receipt | str | os.PathLike[str] | None = None) -> list[Check]:
    """Everything that can be checked of `receipt` (a file, or its bytes) with what is given; it holds if every check
    is `ok`.

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
    if model is not None:
        checks.append(_same("model", "the model after the run", said["model_after"], lambda: model_hash(model)))
    if original is not None:
        checks.append(_same("original", "the model before the run", said["model_before"], lambda: model_hash(original)))
    if record is not None:
        checks.append(_same("record", "the record of the run", said["record"], lambda: record_hash(record)))
    if mask is not None:
        checks.append(_same("mask", "the mask", said["mask"], lambda: mask_hash(mask)))
        if model is not None and original is not None:
            checks.append(_guarded("kept", lambda: _kept(original, model, mask)))
    if secret is not None:
        checks.append(_same("secret", "the secret of this receipt", said["forget_commitment"], lambda: secret.commitment))
        if record is not None and said["split_commitment"] is not None:
            checks.append(_same("split", "the split of the run", said["split_commitment"], lambda: split_commitment(
                secret, (record if isinstance(record, Record) else Record.load(record)).split["hash"])))
    if prove is not None:
        checks.append(_guarded("proof", lambda: _proof(found, prove, secret)))
    if parent is not None:
        checks.append(_guarded("parent", lambda: _parent(found, parent)))
    return checks


def _read(source: Receipt | bytes | str | os.PathLike[str]) -> tuple[list[Check], Receipt | None]:
    """The receipt, and whether its file has the only form and the only digests that its content can have."""
    if isinstance(source, Receipt):
        return [], source
    try:
        data = source if isinstance(source, bytes) else Path(source).read_bytes()
        values = parse(data)
        receipt = Receipt.of(values, "this" if isinstance(source, bytes) else os.fspath(source))
        whole = receipt.to_bytes()
    except (OSError, ExpungeError) as error:
        return [Check("form", False, f"not a readable receipt: {error}")], None
    return [
        Check("form", data == whole, "every byte is as the content requires" if data == whole else
              "the file is not written as receipts are: it was changed or re-formatted"),
        _equal("digest", values["sha256"], receipt.digest, "the statement is the one that was hashed"),
        _equal("id", values["id"], receipt.id, f"{receipt.id} is the name of this statement"),
        _equal("envelope digest", values["envelope_sha256"], parse(whole)["envelope_sha256"],
               "date, machine and key are the ones that were hashed"),
    ], receipt


def _statement(said: dict[str, Any]) -> Check:
    problems = [f"`{k}` is missing" for k in STATEMENT if k not in said] + [f"`{k}` is unknown" for k in said if k not in STATEMENT]
    problems += [f"`{k}` is a {type(said[k]).__name__}" for k, kinds in STATEMENT.items() if k in said and type(said[k]) not in kinds]
    if not problems:
        if said["schema"] != SCHEMA:
            problems.append(f"its schema is {said['schema']}, this version reads {SCHEMA}")
        if said["kind"] != KIND:
            problems.append(f"its kind is {said['kind']!r}, not {KIND!r}")
        hashes = ("model_before", "model_after", "record", "forget_commitment", "split_commitment", "mask")
        problems += [f"`{k}` is not 64 hex digits" for k in hashes if said[k] is not None and not _DIGEST.match(said[k])]
        if said["parent"] is not None and not _ID.match(said["parent"]):
            problems.append("`parent` is not the id of a receipt")
        if (said["forget_commitment"] is None) != (said["forget_count"] == 0) or said["forget_count"] < 0:
            problems.append("`forget_count` does not fit the commitment")
    return Check("statement", not problems, "; ".join(problems) or f"{said['method']} on {said['forget_count']} forgotten samples, complete")


def _envelope(envelope: dict[str, Any]) -> Check:
    key = envelope.get("key")
    good = (set(envelope) == {"created", "machine", "key"} and isinstance(envelope["created"], str)
            and isinstance(envelope["machine"], dict))
    if good and key is not None:
        good = (isinstance(key, dict) and set(key) == {"algorithm", "public", "fingerprint"} and key["algorithm"] == "ed25519"
                and isinstance(key["public"], str) and bool(_DIGEST.match(key["public"]))
                and key["fingerprint"] == fingerprint(bytes.fromhex(key["public"])))
    return Check("envelope", good, f"issued {envelope['created']}, as the issuer says" if good else
                 "date, machine and key are not as receipts have them")


def _signature(receipt: Receipt, pinned: str | os.PathLike[str] | bytes | None) -> Check:
    """Whether both parts are signed, by the key that was pinned or, failing that, by the one the receipt carries."""
    carried = receipt.envelope["key"]
    if receipt.signature is None:
        if carried is not None:
            return Check("signature", False, "a key is named but the signature is gone: it was removed")
        return Check("signature", pinned is None, "unsigned: it fits together, but anyone could have written it" if pinned is None
                     else "unsigned, and a key was asked for")
    if carried is None:
        return Check("signature", False, "signatures are there but no key is named")
    try:
        raw = bytes.fromhex(carried["public"]) if pinned is None else load_public(pinned)
        good = all(re.fullmatch(r"[0-9a-f]{128}", text) is not None
                   and signed_by(raw, bytes.fromhex(text), messages(receipt)[part]) for part, text in receipt.signature.items())
    except MissingExtra as error:
        return Check("signature", False, f"signed, but not checked: {error}")
    except ExpungeError as error:
        return Check("signature", False, str(error))
    name = fingerprint(raw)
    if pinned is not None:
        return Check("signature", good, f"signed by the key you gave, {name}" if good else
                     f"not signed by the key you gave, {name}; the receipt names {carried['fingerprint']}")
    return Check("signature", good, f"signed by the key it carries itself, {name}: unchanged since, but give the signer's "
                 "public key to learn who signed" if good else "the signature is not of this receipt and the key it carries")


def _proof(receipt: Receipt, prove: str | Proof, secret: Secret | None) -> Check:
    if isinstance(prove, str):
        if secret is None:
            return Check("proof", False, f"to prove the id {prove!r} the holder's secret is needed: give it")
        prove = secret.prove(prove)
    said = receipt.statement
    good = said["forget_commitment"] is not None and prove.holds(said["forget_commitment"], said["forget_count"])
    among = f"the {said['forget_count']} forgotten samples of this receipt"
    return Check("proof", good, f"the id {prove.name!r} is among {among}" if good else
                 f"nothing shows that the id {prove.name!r} is among {among}")


def _parent(receipt: Receipt, source: Receipt | str | os.PathLike[str]) -> Check:
    parent = source if isinstance(source, Receipt) else Receipt.load(source)
    good = receipt.statement["parent"] == parent.id and receipt.statement["model_before"] == parent.statement.get("model_after")
    return Check("parent", good, f"this run started from the model that {parent.id} ended with" if good else
                 f"{parent.id} is not the run before this one, or this one started from another model")


def _kept(before: Model, after: Model, mask: Mapping[str, Tensor]) -> Check:
    """Whether the weights that the mask holds fixed are the same bits before and after."""
    old, new = load_weights(before), load_weights(after)
    moved = sum(int((_bits(old[k]) != _bits(new[k]))[~m.bool().cpu().reshape(-1)].any(1).sum()) for k, m in mask.items())
    return Check("kept", moved == 0, "no weight outside the mask has changed" if not moved else
                 f"{moved} weights outside the mask have changed")


def _bits(tensor: Tensor) -> Tensor:
    """The bytes of each number of `tensor` (numel, bytes): NaN equals itself there, -0.0 does not equal 0.0."""
    return tensor.detach().cpu().contiguous().reshape(-1, 1).view(torch.uint8)


def _same(name: str, what: str, wanted: str | None, hashed: Callable[[], str]) -> Check:
    if wanted is None:
        return Check(name, False, f"the receipt says nothing of {what}")
    return _guarded(name, lambda: _equal(name, wanted, hashed(), f"this is {what}", f"this is not {what}"))


def _equal(name: str, wanted: Any, got: Any, good: str, bad: str = "") -> Check:
    return Check(name, wanted == got, good if wanted == got else f"{bad or 'changed'}: it says {wanted}, found {got}")


def _guarded(name: str, check: Callable[[], Check]) -> Check:
    """The check, or a failed one in the words of the error that stopped it."""
    try:
        return check()
    except (ExpungeError, KeyError, RuntimeError) as error:
        return Check(name, False, f"could not be checked: {error}")
