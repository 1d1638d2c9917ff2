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

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from ..errors import ExpungeError
from ..records.atomic_files import atomic
from ..records.file_names import beside
from ..summaries import entry, summary
from .canonical import file_form, parse, sha256, short_id

SCHEMA = 1
FORMAT = "expunge-receipt/v1"
KIND = "unlearning_receipt"

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
# `earlier` lists the requests that the model had answered before: receipt, Merkle root and number of samples of each.
# `mask_names` is the hash of the names that parameters of the mask have in the model file, where they differ.
OPTIONAL: dict[str, tuple[type, ...]] = {"implementation": (dict,), "earlier": (list,), "mask_names": (str,)}

# The envelope may name these files, with the SHA-256 of their bytes. The statement has the hashes of what they hold.
FILES = ("model", "record")


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


def receipt_paths(checkpoint: Path, name: str) -> tuple[Path, Path]:
    """Return the files of the receipt with the id `name` of a checkpoint, and of its secret.

    The name of the secret contains the id, so that a later run to the same checkpoint keeps the secret of a receipt that
    was handed out.
    """
    return beside(checkpoint, ".receipt.json"), beside(checkpoint, f".{name[:11]}.secret.json")
