"""What can be checked of a receipt by itself: its form, its digests, what its parts hold, its signature."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from ..errors import ExpungeError, MissingExtra
from .canonical import parse, sha256
from .keys import fingerprint, load_public, signed_by
from .receipt import IMPLEMENTATION, KIND, OPTIONAL, SCHEMA, STATEMENT, Receipt, messages

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


def check_alone(
    source: Receipt | bytes | str | os.PathLike[str], public_key: str | os.PathLike[str] | bytes | None
) -> tuple[list[Check], Receipt | None]:
    """The checks that need nothing but the receipt, or its file, and perhaps the signer's key; and the receipt, None where
    nothing in it can be relied on, signature or not."""
    checks, found = _read(source)
    if found is None:
        return checks, None
    checks += [_statement(found.statement), _envelope(found.envelope)]
    if not all(check.ok for check in checks):
        return checks, None
    return [*checks, _changed(found.statement), _signature(found, public_key)], found


def equal(name: str, wanted: Any, got: Any, held: str, failed: str = "changed") -> Check:
    """Whether two values that must be the same are."""
    return Check.of(name, wanted == got, held, f"{failed}: it says {wanted}, found {got}")


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
        equal("digest", values["sha256"], receipt.digest, "the statement is the one that was hashed"),
        equal("id", values["id"], receipt.id, f"{receipt.id} is the name of this statement"),
        equal(
            "envelope digest",
            values["envelope_sha256"],
            sha256(receipt.envelope),
            "date, machine and key are the ones that were hashed",
        ),
    ], receipt


def _statement(said: dict[str, Any]) -> Check:
    """Whether it has exactly the entries of this schema, in their types."""
    problems = [f"`{k}` is missing" for k in STATEMENT if k not in said]
    problems += [f"`{k}` is unknown" for k in said if k not in STATEMENT | OPTIONAL]
    problems += [
        f"`{k}` is a {type(said[k]).__name__}"
        for k, kinds in (STATEMENT | OPTIONAL).items()
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
    implementation = said.get("implementation", {"class": "", "source_sha256": None})
    source = implementation.get("source_sha256")
    if set(implementation) != set(IMPLEMENTATION) or type(implementation["class"]) is not str:
        problems.append("`implementation` has not the entries class and source_sha256")
    elif source is not None and not (isinstance(source, str) and _DIGEST.match(source)):
        problems.append("`implementation` has a source_sha256 that is not 64 hex digits")
    return problems


def _changed(said: dict[str, Any]) -> Check:
    """A run that ended with the model it began with, as one that diverged and was taken back, has removed nothing."""
    return Check.of(
        "changed",
        said["model_before"] != said["model_after"],
        "the model after the run is another than the one before",
        "the model after the run is the one before it: the run removed nothing",
    )


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
