"""Checks of a receipt that need only the receipt itself: its form, its hashes, its entries, its signature."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from ..errors import ExpungeError, MissingExtra
from .canonical import parse, sha256
from .keys import fingerprint, load_public, signed_by
from .receipt import FILES, IMPLEMENTATION, KIND, OPTIONAL, SCHEMA, STATEMENT, Receipt
from .signing import messages

_DIGEST = re.compile(r"[0-9a-f]{64}\Z")
_SIGNATURE = re.compile(r"[0-9a-f]{128}\Z")
_ID = re.compile(r"ul-[A-Z2-7]{26}\Z")


@dataclass(frozen=True)
class Check:
    """Hold the result of one check.

    Args:
        name: Name of the check, such as "signature".
        ok: True if the check passed.
        message: The result as a phrase.
    """

    name: str
    ok: bool
    message: str

    @classmethod
    def of(cls, name: str, ok: bool, passed: str, failed: str) -> Self:
        """Make a check whose message is `passed` if it is ok, else `failed`."""
        return cls(name, ok, passed if ok else failed)


def check_receipt(
    source: Receipt | bytes | str | os.PathLike[str], public_key: str | os.PathLike[str] | bytes | None
) -> tuple[list[Check], Receipt | None]:
    """Run the checks that need only the receipt and, optionally, the public key of its signer.

    Args:
        source: The receipt, its file, or the bytes of its file.
        public_key: The public key that must have signed it: 32 bytes, 64 hex digits or a PEM file.

    Returns:
        The checks and the receipt. The receipt is None if its form, statement or envelope is broken: then no
        further check has a meaning, whatever the signature says.
    """
    checks, receipt = _read(source)
    if receipt is None:
        return checks, None
    checks += [_check_statement(receipt.statement), _check_envelope(receipt.envelope)]
    if not all(check.ok for check in checks):
        return checks, None
    return [*checks, _check_changed(receipt.statement), _check_signature(receipt, public_key)], receipt


def check_equal(name: str, expected: Any, actual: Any, passed: str, failed: str = "changed") -> Check:
    """Check that the actual value is the one that the receipt states."""
    message = f"{failed}: the receipt states {expected}, the actual value is {actual}"
    return Check.of(name, expected == actual, passed, message)


def _read(source: Receipt | bytes | str | os.PathLike[str]) -> tuple[list[Check], Receipt | None]:
    """Read the receipt, and check that its file has the one form and the hashes that its content requires."""
    try:
        if isinstance(source, str | os.PathLike):
            data = Path(source).read_bytes()
        else:
            data = source.to_bytes() if isinstance(source, Receipt) else source
        values = parse(data)
        receipt = Receipt.of(values)
        expected = receipt.to_bytes()
    except (OSError, ExpungeError) as error:
        return [Check("form", False, f"not a readable receipt: {error}")], None
    return [
        Check.of(
            "form",
            data == expected,
            "every byte is as the content requires",
            "the file is not written as receipts are: someone edited or re-formatted it",
        ),
        check_equal("digest", values["sha256"], receipt.digest, "the statement matches its hash"),
        check_equal("id", values["id"], receipt.id, f"{receipt.id} is the id of this statement"),
        check_equal(
            "envelope digest",
            values["envelope_sha256"],
            sha256(receipt.envelope),
            "date, machine and key match their hash",
        ),
    ], receipt


def _check_statement(statement: dict[str, Any]) -> Check:
    """Check that the statement has the entries of this schema and no unknown ones, with the right types."""
    problems = [f"`{key}` is missing" for key in STATEMENT if key not in statement]
    problems += [f"`{key}` is unknown" for key in statement if key not in STATEMENT | OPTIONAL]
    problems += [
        f"`{key}` is a {type(statement[key]).__name__}"
        for key, types in (STATEMENT | OPTIONAL).items()
        if key in statement and type(statement[key]) not in types
    ]
    if not problems:
        problems = _value_problems(statement)
    if problems:
        return Check("statement", False, "; ".join(problems))
    return Check("statement", True, f"{statement['method']} on {statement['forget_count']} forgotten ids")


def _value_problems(statement: dict[str, Any]) -> list[str]:
    """List the wrong values of a statement whose types are right."""
    problems = []
    if statement["schema"] != SCHEMA:
        problems.append(f"its schema is {statement['schema']}, this version reads {SCHEMA}")
    if statement["kind"] != KIND:
        problems.append(f"its kind is {statement['kind']!r}, not {KIND!r}")
    hashes = (
        "model_before",
        "model_after",
        "record",
        "forget_commitment",
        "split_commitment",
        "mask",
        "mask_names",
    )
    problems += [
        f"`{key}` is not 64 hex digits"
        for key in hashes
        if statement.get(key) is not None and not _DIGEST.match(statement[key])
    ]
    if statement["parent"] is not None and not _ID.match(statement["parent"]):
        problems.append("`parent` is not the id of a receipt")
    count = statement["forget_count"]
    if (statement["forget_commitment"] is None) != (count == 0) or count < 0:
        problems.append("`forget_count` contradicts `forget_commitment`")
    return problems + _implementation_problems(statement)


def _implementation_problems(statement: dict[str, Any]) -> list[str]:
    """List what is wrong with the optional entry `implementation`."""
    implementation = statement.get("implementation", {"class": "", "source_sha256": None})
    source = implementation.get("source_sha256")
    if set(implementation) != set(IMPLEMENTATION) or type(implementation["class"]) is not str:
        return ["`implementation` must have exactly the entries class and source_sha256"]
    if source is not None and not (isinstance(source, str) and _DIGEST.match(source)):
        return ["`implementation` has a source_sha256 that is not 64 hex digits"]
    return []


def _check_changed(statement: dict[str, Any]) -> Check:
    """Check that the run changed the model. A run that diverged and was rolled back removed nothing."""
    return Check.of(
        "changed",
        statement["model_before"] != statement["model_after"],
        "the run changed the model",
        "the models before and after the run are the same: the run removed nothing",
    )


def _check_envelope(envelope: dict[str, Any]) -> Check:
    ok = (
        set(envelope) - {"files"} == {"created", "machine", "key"}
        and _are_hashes(envelope.get("files", {}))
        and isinstance(envelope["created"], str)
        and isinstance(envelope["machine"], dict)
        and (envelope["key"] is None or _is_key(envelope["key"]))
    )
    return Check.of(
        "envelope",
        ok,
        f"issued {envelope.get('created')}, according to the issuer",
        "the entries of date, machine, key and files are missing or have wrong types",
    )


def _are_hashes(files: Any) -> bool:
    """True if `files` is {"model" or "record": 64 hex digits}."""
    return isinstance(files, dict) and all(
        name in FILES and isinstance(digest, str) and _DIGEST.match(digest) for name, digest in files.items()
    )


def _is_key(key: Any) -> bool:
    """True if `key` is the entry of an Ed25519 public key with the right fingerprint."""
    return (
        isinstance(key, dict)
        and set(key) == {"algorithm", "public", "fingerprint"}
        and key["algorithm"] == "ed25519"
        and isinstance(key["public"], str)
        and bool(_DIGEST.match(key["public"]))
        and key["fingerprint"] == fingerprint(bytes.fromhex(key["public"]))
    )


def _check_signature(receipt: Receipt, public_key: str | os.PathLike[str] | bytes | None) -> Check:
    """Check both signatures with the given public key. Without one, use the key that the receipt carries."""
    carried, name = receipt.envelope["key"], "signature"
    if receipt.signature is None and carried is not None:
        return Check(name, False, "the receipt names a key but has no signature: someone removed it")
    if receipt.signature is None:
        return Check.of(
            name,
            public_key is None,
            "unsigned: the receipt is consistent, but anyone could have written it",
            "unsigned, but you asked for a signature by your key",
        )
    if carried is None:
        return Check(name, False, "the receipt has signatures but names no key")
    try:
        key = bytes.fromhex(carried["public"]) if public_key is None else load_public(public_key)
        ok = _signed_by(receipt, receipt.signature, key)
    except MissingExtra as error:
        return Check(name, False, f"signed, but not checked: {error}")
    except ExpungeError as error:
        return Check(name, False, str(error))
    if public_key is not None:
        return Check.of(
            name,
            ok,
            f"signed by the key you gave, {fingerprint(key)}",
            f"not signed by the key you gave, {fingerprint(key)}; the receipt names {carried['fingerprint']}",
        )
    return Check.of(
        name,
        ok,
        f"signed by the key that the receipt carries itself, {fingerprint(key)}: unchanged since it was signed; "
        "to learn who signed, give the public key of the signer",
        "the signature does not match this receipt and the key that it carries",
    )


def _signed_by(receipt: Receipt, signature: dict[str, str], key: bytes) -> bool:
    """True if the private key of `key` signed both the statement and the envelope."""
    return all(
        _SIGNATURE.match(signature[part]) is not None
        and signed_by(key, bytes.fromhex(signature[part]), message)
        for part, message in messages(receipt).items()
    )
