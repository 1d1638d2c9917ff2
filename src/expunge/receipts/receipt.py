"""Receipts: tamper-evident files that state which method ran, on which model, and what came out.

A receipt has three parts:

- The *statement* says what was run: method, settings, models, commitment to the forget set. The SHA-256 of its
  canonical form gives the receipt its id. The same run always has the same statement.
- The *envelope* says who issued the receipt, when, and on which machine. It is not part of the id, but it has
  its own hash and signature.
- The *signature* (Ed25519, optional) covers both.

A receipt shows what was run, according to its signer. It does not show that data is forgotten: docs/receipts.md.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self
from unicodedata import normalize

from torch import Tensor, nn

from ..errors import ExpungeError
from ..records.atomic_files import atomic
from ..records.hashing import mask_hash, model_hash
from ..records.record import Record, plain
from ..summaries import entry, summary
from .canonical import decimals, exact, file_form, parse, sha256, short_id
from .keys import fingerprint, load_private, public_bytes
from .merkle import Secret

SCHEMA = 1
FORMAT = "expunge-receipt/v1"
KIND = "unlearning_receipt"
# With these prefixes, the signature of a receipt is valid for nothing else.
SIGN_STATEMENT = b"expunge-receipt/v1\0"
SIGN_ENVELOPE = b"expunge-envelope/v1\0"
_SPLIT = b"expunge-split/v1\0"
_SOFTWARE = ("expunge", "torch", "numpy", "scikit-learn", "diffusers", "python")

# Every statement has these entries, with these types.
STATEMENT: dict[str, tuple[type, ...]] = {
    "schema": (int,),
    "kind": (str,),
    "run": (str,),
    "task": (str,),
    "goal": (str,),
    "method": (str,),
    "settings": (dict,),
    "seed": (int, str),
    "model_before": (str,),
    "model_after": (str,),
    "forget_commitment": (str, type(None)),
    "forget_count": (int,),
    "split_commitment": (str, type(None)),
    "mask": (str, type(None)),
    "record": (str,),
    "software": (dict,),
    "parent": (str, type(None)),
}

# Where the method is defined: "module:Class", and the SHA-256 of its source file (None for a notebook).
IMPLEMENTATION = ("class", "source_sha256")
# A statement may have these entries too. Older receipts lack them.
OPTIONAL: dict[str, tuple[type, ...]] = {"implementation": (dict,)}

Model = nn.Module | Mapping[str, Tensor] | str | os.PathLike[str]


@dataclass(frozen=True)
class Receipt:
    """Hold a receipt.

    Args:
        statement: What was run, as in the file.
        envelope: Who issued the receipt, when, and on which machine, as in the file.
        signature: Signatures of "statement" and "envelope", 128 hex digits each. None for an unsigned receipt.

    Example:
        >>> receipt = Receipt.load("unlearned.receipt.json")
        >>> receipt.id, receipt.statement["method"]
        ('ul-Z24O557Q…', 'salun')
    """

    statement: dict[str, Any]
    envelope: dict[str, Any]
    signature: dict[str, str] | None = None

    def __repr__(self) -> str:
        hashes = {
            name: entry(self.statement, name)[:12] for name in ("model_before", "model_after", "record")
        }
        try:
            name = self.id
        except ExpungeError:
            name = "the statement has no canonical form"
        return summary(
            f"Receipt({name}, {'signed' if self.signature else 'unsigned'})",
            f"{entry(self.statement, 'run')} by {entry(self.statement, 'method')}, seed {entry(self.statement, 'seed')}",
            f"forgets {entry(self.statement, 'forget_count')} samples, parent {entry(self.statement, 'parent', 'none')}",
            ", ".join(f"{name} {digest}" for name, digest in hashes.items()),
            f"issued {entry(self.envelope, 'created')}",
        )

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical statement, 64 hex digits. The signature covers it."""
        return sha256(self.statement)

    @property
    def id(self) -> str:
        """`ul-` and the first 26 base32 characters of the digest. Verification uses the whole digest."""
        return short_id(self.digest, "ul-")

    def to_bytes(self) -> bytes:
        """Return the content of the file. A receipt has one file form only, so every changed byte shows."""
        return file_form(
            {
                "format": FORMAT,
                "id": self.id,
                "sha256": self.digest,
                "statement": self.statement,
                "envelope": self.envelope,
                "envelope_sha256": sha256(self.envelope),
                "signature": self.signature or "unsigned",
            }
        )

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the receipt to `path`, atomically, and return the path."""
        with atomic(path) as part:
            part.write_bytes(self.to_bytes())
        return Path(path)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read a receipt without checking it. Use `verify` to check it.

        Raises:
            ExpungeError: The file is not a receipt.
        """
        try:
            values = parse(Path(path).read_bytes())
        except (OSError, ExpungeError) as error:
            raise ExpungeError(f"{path} cannot be read as a receipt: {error}") from error
        return cls.of(values, os.fspath(path))

    @classmethod
    def of(cls, values: Any, source: str = "this") -> Self:
        """Make a receipt from the parsed content of its file.

        Args:
            values: The parsed JSON.
            source: Name of the file, for error messages.

        Raises:
            ExpungeError: The content is not that of a receipt.
        """
        keys = {"format", "id", "sha256", "statement", "envelope", "envelope_sha256", "signature"}
        if not isinstance(values, dict) or set(values) != keys or values["format"] != FORMAT:
            raise ExpungeError(f"{source} is not a receipt of the format {FORMAT}.")
        signature = values["signature"]
        has_signatures = isinstance(signature, dict) and set(signature) == {"statement", "envelope"}
        if not (
            isinstance(values["statement"], dict)
            and isinstance(values["envelope"], dict)
            and (
                signature == "unsigned"
                or (has_signatures and all(isinstance(text, str) for text in signature.values()))
            )
        ):
            raise ExpungeError(f"{source} has a statement, an envelope or a signature of a wrong type.")
        return cls(values["statement"], values["envelope"], signature if has_signatures else None)


def record_hash(record: Record | str | os.PathLike[str]) -> str:
    """Compute the SHA-256 of a record in canonical form, with every entry: settings, scores, times.

    Args:
        record: The record, or its JSON file. Both have the same hash.

    Returns:
        64 hex digits.

    Raises:
        ExpungeError: The file is not JSON.
    """
    if isinstance(record, Record):
        return sha256(exact(plain(asdict(record))))
    try:
        return sha256(exact(parse(Path(record).read_bytes(), floats=True)))
    except (OSError, ExpungeError) as error:
        raise ExpungeError(f"{record} cannot be read as a record: {error}") from error


def split_commitment(secret: Secret, split_hash: str) -> str:
    """Hash the split's hash under the secret salt.

    With the plain hash of the split, anyone who has the data could test guesses of the forget set.
    """
    return hmac.digest(bytes.fromhex(secret.salt), _SPLIT + split_hash.encode(), "sha256").hex()


def issue(
    record: Record,
    forget_ids: Iterable[str] | None = None,
    *,
    before: Model | None = None,
    after: Model | None = None,
    mask: Mapping[str, Tensor] | None = None,
    parent: Receipt | str | None = None,
    key: str | os.PathLike[str] | None = None,
    passphrase: bytes | None = None,
    salt: bytes | None = None,
) -> tuple[Receipt, Secret | None]:
    """Make the receipt of a finished run.

    Args:
        record: The record of the run.
        forget_ids: Ids of the forgotten samples. Repeated ids count once. None for a run without samples, such
            as erasing a concept.
        before: The model before the run. By default its hash is read from `record.model["hash_before"]`.
        after: The model after the run. By default its hash is read from `record.model["hash_after"]`.
        mask: The saliency mask of the run.
        parent: The receipt, or its id, of the run that made the model `before`.
        key: File of the private key to sign with. Without it, the receipt is unsigned.
        passphrase: Passphrase of the key, if the key is locked.
        salt: 32 bytes that replace the random salt. The same salt and ids give the same commitment.

    Returns:
        The receipt, and the secret that opens its commitment to `forget_ids` (None without ids).

    Raises:
        ExpungeError: The hash of a model is missing, the run did not change the model, `parent` ended with
            another model, or the key cannot be used.

    Example:
        >>> receipt, secret = issue(record, ["user-17", "user-230"], before=original, after=unlearned)
        >>> receipt.save("receipt.json")
        >>> secret.save("secret.json")
    """
    hash_before, hash_after = _model_hashes(record, before, after)
    if isinstance(parent, Receipt) and parent.statement["model_after"] != hash_before:
        raise ExpungeError(
            f"{parent.id} ended with another model than the one that this run started from. "
            "Name the receipt of the run that made this model, or no parent."
        )
    secret = None
    if forget_ids is not None:
        secret = Secret.of(sorted({normalize("NFC", name) for name in forget_ids}), salt)
    split = record.split.get("hash")
    statement = {
        "schema": SCHEMA,
        "kind": KIND,
        "run": record.kind,
        "task": record.task,
        "goal": record.goal,
        "method": record.method,
        "settings": decimals(plain(record.settings)),
        "seed": decimals(record.seed),
        "model_before": hash_before,
        "model_after": hash_after,
        "forget_commitment": secret.commitment if secret else None,
        "forget_count": len(secret.leaves) if secret else 0,
        "split_commitment": split_commitment(secret, split) if secret and split else None,
        "mask": mask_hash(mask) if mask is not None else None,
        "record": record_hash(record),
        "software": {name: str(record.machine[name]) for name in _SOFTWARE if name in record.machine},
        "parent": parent.id if isinstance(parent, Receipt) else parent,
    }
    implementation = record.details.get("implementation")
    if isinstance(implementation, dict):
        statement["implementation"] = {name: implementation.get(name) for name in IMPLEMENTATION}
    machine = {name: value for name, value in plain(record.machine).items() if name not in _SOFTWARE}
    receipt = signed(Receipt(statement, {"machine": decimals(machine)}), key, passphrase)
    return receipt, secret and Secret(secret.salt, secret.leaves, receipt.id)


def _model_hashes(record: Record, before: Model | None, after: Model | None) -> tuple[str, str]:
    """Return the hashes of the models before and after the run. Raises `ExpungeError` if there are none to compare."""
    hashes = {
        name: model_hash(model) if model is not None else record.model.get(f"hash_{name}")
        for name, model in (("before", before), ("after", after))
    }
    missing = [
        f"the hash of the model {name} the run is missing. "
        f"Pass the model as `{name}`, or a record that has model['hash_{name}']."
        for name, digest in hashes.items()
        if not digest
    ]
    if missing:
        raise ExpungeError(missing)
    if hashes["before"] == hashes["after"]:
        raise ExpungeError(
            f"the run did not change the model ({record.status}), so there is nothing to make a receipt of. "
            "Make a receipt of a run that changed the model."
        )
    return str(hashes["before"]), str(hashes["after"])


def signed(receipt: Receipt, key: str | os.PathLike[str] | None, passphrase: bytes | None = None) -> Receipt:
    """Return `receipt` in a new envelope, signed with a private key. The id stays the same.

    Args:
        receipt: The receipt to sign. An older signature is dropped.
        key: File of the private key. None makes an unsigned receipt.
        passphrase: Passphrase of the key, if the key is locked.

    Raises:
        ExpungeError: The key cannot be read or opened.
    """
    private = load_private(key, passphrase) if key is not None else None
    public = public_bytes(private) if private else b""
    envelope = {
        **receipt.envelope,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "key": {"algorithm": "ed25519", "public": public.hex(), "fingerprint": fingerprint(public)}
        if private
        else None,
    }
    unsigned = Receipt(receipt.statement, envelope)
    if private is None:
        return unsigned
    signature = {part: private.sign(message).hex() for part, message in messages(unsigned).items()}
    return Receipt(receipt.statement, envelope, signature)


def messages(receipt: Receipt) -> dict[str, bytes]:
    """Return the bytes to sign for each part: a prefix and 32 bytes.

    The message of the envelope depends on the statement too, so an envelope cannot be moved to another receipt.
    """
    statement = bytes.fromhex(receipt.digest)
    both = hashlib.sha256(statement + bytes.fromhex(sha256(receipt.envelope)))
    return {"statement": SIGN_STATEMENT + statement, "envelope": SIGN_ENVELOPE + both.digest()}
