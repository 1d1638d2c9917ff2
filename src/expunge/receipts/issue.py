"""Make the receipt of a finished run. The hashes in its statement are computed here."""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unicodedata import normalize

from ..errors import ExpungeError
from ..records.record import Record, plain
from .canonical import decimals, exact, parse, sha256
from .commitment import Secret
from .kept import names_hash
from .receipt import IMPLEMENTATION, KIND, SCHEMA, Receipt
from .signing import signed

_SPLIT = b"expunge-split/v1\0"
_SOFTWARE = ("expunge", "torch", "numpy", "scikit-learn", "diffusers", "python")

if TYPE_CHECKING:
    from torch import Tensor, nn

    Model = nn.Module | Mapping[str, Tensor] | str | os.PathLike[str]


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
        return sha256(exact(plain(record)))
    try:
        return _hash_of_bytes(Path(record).read_bytes())
    except (OSError, ExpungeError) as error:
        raise ExpungeError(f"{record} cannot be read as a record: {error}") from error


@lru_cache(maxsize=4)
def _hash_of_bytes(content: bytes) -> str:
    """Return the hash of a record's JSON. A command needs that of the same record several times."""
    return sha256(exact(parse(content, floats=True)))


def file_hash(path: str | os.PathLike[str]) -> str:
    """Compute the SHA-256 (64 hex digits) of the bytes of a file.

    Raises:
        ExpungeError: The file cannot be read.
    """
    try:
        with Path(path).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ExpungeError(f"{path} cannot be read: {error.strerror}; name a file.") from error


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
    files: Mapping[str, str | os.PathLike[str]] | None = None,
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
        files: The files that are delivered: "model" and "record". The envelope gets the SHA-256 of their bytes.

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
        **_mask_entries(mask),
        "record": record_hash(record),
        "software": {name: str(record.machine[name]) for name in _SOFTWARE if name in record.machine},
        "parent": parent.id if isinstance(parent, Receipt) else parent,
    }
    implementation = record.details.get("implementation")
    if isinstance(implementation, dict):
        statement["implementation"] = {name: implementation.get(name) for name in IMPLEMENTATION}
    if isinstance(earlier := record.details.get("earlier"), list):
        statement["earlier"] = [_earlier_request(entry) for entry in plain(earlier)]
    machine = {name: value for name, value in plain(record.machine).items() if name not in _SOFTWARE}
    envelope = {"machine": decimals(machine)}
    if files:
        envelope["files"] = {name: file_hash(path) for name, path in files.items()}
    receipt = signed(Receipt(statement, envelope), key, passphrase)
    return receipt, secret and Secret(secret.salt, secret.leaves, receipt.id)


def _earlier_request(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the statement says of an earlier request."""
    # no hash of a split: anyone who has the data could test guesses of the forget set
    return {
        "receipt": entry.get("receipt") or None,
        "forget_commitment": entry.get("commitment") or None,
        "forget_count": entry.get("count", 0),
    }


def _mask_entries(mask: Mapping[str, Tensor] | None) -> dict[str, Any]:
    """Return what the statement says of the mask: its hash, and that of the names it gives for a model file."""
    if mask is None:
        return {"mask": None}
    # imported here: the ledger reads records without torch
    from ..records.hashing import mask_hash

    return {"mask": mask_hash(mask), "mask_names": names_hash(mask)}


def _model_hashes(record: Record, before: Model | None, after: Model | None) -> tuple[str, str]:
    """Return the hashes of the models before and after the run. Raises `ExpungeError` if there are none to compare."""
    from ..records.hashing import model_hash

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
