"""Receipts: what was run and what came out, in a file that shows every change made to it.

A receipt has three parts. The *statement* says what was done (method, settings, models, commitment to the
forget set); its canonical SHA-256 is the receipt's name, and the same run has the same statement wherever and
whenever it is written down. The *envelope* says who issued it, when and on which machine: facts about the
paper, not the run, hence outside the name, but under a hash and a signature of their own. The *signatures*
(Ed25519, optional) cover both. A receipt proves what was run, as its signer states it. It does not prove that
data is forgotten: docs/receipts.md.
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
SIGN_STATEMENT = b"expunge-receipt/v1\0"  # no signature of a receipt can be taken for one of anything else
SIGN_ENVELOPE = b"expunge-envelope/v1\0"
_SPLIT = b"expunge-split/v1\0"
_SOFTWARE = ("expunge", "torch", "numpy", "scikit-learn", "diffusers", "python")

STATEMENT: dict[str, tuple[type, ...]] = {  # the entries of a statement and their types: no more, no fewer
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

# where the method is defined: "module:Class", and the SHA-256 of its source file (None for a notebook)
IMPLEMENTATION = ("class", "source_sha256")
# entries that a statement may have: receipts written before they existed lack them
OPTIONAL: dict[str, tuple[type, ...]] = {"implementation": (dict,)}

Model = nn.Module | Mapping[str, Tensor] | str | os.PathLike[str]


@dataclass(frozen=True)
class Receipt:
    """One receipt: `statement` and `envelope` as they are in the file, `signature` of both (128 hex digits
    each) or None."""

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
        """SHA-256 of the canonical statement, 64 hex digits: what is signed."""
        return sha256(self.statement)

    @property
    def id(self) -> str:
        """`ul-` and 26 base32 characters of the digest. For people; verification uses the whole digest."""
        return short_id(self.digest, "ul-")

    def to_bytes(self) -> bytes:
        """The file: one form only, so that any change to any byte of it shows."""
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
        """Write the receipt, atomically."""
        with atomic(path) as part:
            part.write_bytes(self.to_bytes())
        return Path(path)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read a receipt, not judging it (`verify` does). Raises `ExpungeError` for what is not one."""
        try:
            values = parse(Path(path).read_bytes())
        except (OSError, ExpungeError) as error:
            raise ExpungeError(f"{path} cannot be read as a receipt: {error}") from error
        return cls.of(values, os.fspath(path))

    @classmethod
    def of(cls, values: Any, where: str = "this") -> Self:
        """The receipt in the parsed file `values`. Raises `ExpungeError` for anything else."""
        known = {"format", "id", "sha256", "statement", "envelope", "envelope_sha256", "signature"}
        if not isinstance(values, dict) or set(values) != known or values["format"] != FORMAT:
            raise ExpungeError(f"{where} is not a receipt of the form {FORMAT}.")
        signature = values["signature"]
        signed = isinstance(signature, dict) and set(signature) == {"statement", "envelope"}
        if not (
            isinstance(values["statement"], dict)
            and isinstance(values["envelope"], dict)
            and (signature == "unsigned" or (signed and all(isinstance(s, str) for s in signature.values())))
        ):
            raise ExpungeError(f"{where} has a statement, an envelope or a signature of a wrong type.")
        return cls(values["statement"], values["envelope"], signature if signed else None)


def record_hash(record: Record | str | os.PathLike[str]) -> str:
    """SHA-256 of a run's record in canonical form: the object or its JSON file, scores, times, all of it."""
    if isinstance(record, Record):
        return sha256(exact(plain(asdict(record))))
    try:
        return sha256(exact(parse(Path(record).read_bytes(), floats=True)))
    except (OSError, ExpungeError) as error:
        raise ExpungeError(f"{record} cannot be read as a record: {error}") from error


def split_commitment(secret: Secret, split_hash: str) -> str:
    """The split's hash under the secret salt: in the clear, whoever has the data could test a guess of
    who is in the forget set."""
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
    """The receipt of a finished run, and the secret that opens its commitment to `forget_ids`.

    The models' hashes are taken of `before` and `after` where they are given, else from `record.model`
    ("hash_before", "hash_after"). Ids that repeat count once; `forget_ids` None is for runs without samples,
    such as erasing a concept.
    `key` is a private key file, opened with `passphrase` if it is locked; without it the receipt is unsigned and
    says so. A `salt` (32 bytes) given again makes the same commitment again. Raises `ExpungeError` where
    something is missing, for a run that changed nothing, and for a `parent` that ended with another model.
    """
    hashes = {
        name: model_hash(model) if model is not None else record.model.get(f"hash_{name}")
        for name, model in (("before", before), ("after", after))
    }
    missing = [
        f"the model {name} the run has no hash: give `{name}`, or a record that has model['hash_{name}']."
        for name, found in hashes.items()
        if not found
    ]
    if missing:
        raise ExpungeError(missing)
    if hashes["before"] == hashes["after"]:
        raise ExpungeError(
            f"the run ended with the model that it began with ({record.status}), so there is nothing to make a receipt of."
        )
    if isinstance(parent, Receipt) and parent.statement["model_after"] != hashes["before"]:
        raise ExpungeError(
            f"{parent.id} ended with another model than the one that this run began with; name the receipt of the run "
            "before this one, or none."
        )
    secret = None
    if forget_ids is not None:
        secret = Secret.of(sorted({normalize("NFC", name) for name in forget_ids}), salt)
    split = record.split.get("hash")
    software = {k: str(record.machine[k]) for k in _SOFTWARE if k in record.machine}
    statement = {
        "schema": SCHEMA,
        "kind": KIND,
        "run": record.kind,
        "task": record.task,
        "goal": record.goal,
        "method": record.method,
        "settings": decimals(plain(record.settings)),
        "seed": decimals(record.seed),
        "model_before": hashes["before"],
        "model_after": hashes["after"],
        "forget_commitment": secret.commitment if secret else None,
        "forget_count": len(secret.leaves) if secret else 0,
        "split_commitment": split_commitment(secret, split) if secret and split else None,
        "mask": mask_hash(mask) if mask is not None else None,
        "record": record_hash(record),
        "software": software,
        "parent": parent.id if isinstance(parent, Receipt) else parent,
    }
    implementation = record.details.get("implementation")
    if isinstance(implementation, dict):
        statement["implementation"] = {k: implementation.get(k) for k in IMPLEMENTATION}
    machine = {k: v for k, v in plain(record.machine).items() if k not in _SOFTWARE}
    receipt = signed(Receipt(statement, {"machine": decimals(machine)}), key, passphrase)
    return receipt, secret and Secret(secret.salt, secret.leaves, receipt.id)


def signed(receipt: Receipt, key: str | os.PathLike[str] | None, passphrase: bytes | None = None) -> Receipt:
    """`receipt` in a new envelope, signed with the private key file `key`, or unsigned. Its id stays. Raises `ExpungeError`
    for a key that cannot be read or opened."""
    private = load_private(key, passphrase) if key is not None else None
    public = public_bytes(private) if private else b""
    envelope = {
        **receipt.envelope,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "key": {"algorithm": "ed25519", "public": public.hex(), "fingerprint": fingerprint(public)}
        if private
        else None,
    }
    new = Receipt(receipt.statement, envelope)
    if private is None:
        return new
    return Receipt(
        new.statement,
        envelope,
        {part: private.sign(message).hex() for part, message in messages(new).items()},
    )


def messages(receipt: Receipt) -> dict[str, bytes]:
    """What is signed: a prefix and 32 bytes each. The envelope's are bound to the statement it carries."""
    statement = bytes.fromhex(receipt.digest)
    both = hashlib.sha256(statement + bytes.fromhex(sha256(receipt.envelope)))
    return {"statement": SIGN_STATEMENT + statement, "envelope": SIGN_ENVELOPE + both.digest()}
