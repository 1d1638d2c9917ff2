"""The secret that opens a commitment to a set of ids, and the proof that one id is in the set."""

from __future__ import annotations

import hmac
import os
import secrets
import unicodedata
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from ..errors import ExpungeError
from ..records.atomic_files import write_private, write_text
from .canonical import file_form, parse
from .merkle import leaf, leaf_salt, root, root_from_path, siblings

SALT_BYTES = 32


@dataclass(frozen=True)
class Proof:
    """Prove that one id is in a commitment.

    A proof shows this id, its own salt and hashes of other nodes. It shows no other id.

    Args:
        name: The id.
        salt: Salt of this id, 64 hex digits.
        index: Place of its leaf among the sorted leaves.
        path: Hashes of the siblings, 64 hex digits each.
        receipt: Id of the receipt, to find it again. It has no part in the proof.
    """

    name: str
    salt: str
    index: int
    path: list[str]
    receipt: str = ""

    def holds(self, commitment: str, count: int) -> bool:
        """Return True if the id is in the set of `count` ids that `commitment` (64 hex digits) stands for."""
        computed = root_from_path(
            leaf(bytes.fromhex(self.salt), self.name),
            self.index,
            count,
            [bytes.fromhex(digest) for digest in self.path],
        )
        return computed is not None and hmac.compare_digest(computed.hex(), commitment)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the proof. It is meant for the person whose data it concerns: the file contains the id."""
        write_text(path, file_form({"format": "expunge-proof/v1", **asdict(self)}).decode())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read a proof.

        Raises:
            ExpungeError: The file is not a proof.
        """
        values = _read(
            path, "expunge-proof/v1", {"name": str, "salt": str, "index": int, "path": list, "receipt": str}
        )
        if not all(_is_digest(digest) for digest in [values["salt"], *values["path"]]):
            raise ExpungeError(f"{path} holds a hash that is not 64 hex digits. Ask for the proof again.")
        return cls(**values)


@dataclass(frozen=True)
class Secret:
    """Open a commitment. The holder keeps the secret private; it contains no ids.

    Args:
        salt: The secret salt, 64 hex digits.
        leaves: The sorted leaves, 64 hex digits each.
        receipt: Id of the receipt that carries the commitment.

    Example:
        >>> secret = Secret.load("secret.json")
        >>> "user-17" in secret
        True
        >>> secret.prove("user-17").save("proof-17.json")
    """

    salt: str
    leaves: list[str]
    receipt: str = ""

    @classmethod
    def of(cls, ids: Sequence[str], salt: bytes | None = None) -> Self:
        """Make the secret of a set of ids.

        Args:
            ids: The ids, each once. Two ids with the same Unicode normal form NFC are the same id.
            salt: The secret salt (32 bytes). Default: random.

        Raises:
            ExpungeError: There are no ids, or an id repeats.
        """
        salt = secrets.token_bytes(SALT_BYTES) if salt is None else salt
        names = {unicodedata.normalize("NFC", name) for name in ids}
        if not ids or len(names) < len(ids):
            raise ExpungeError(
                f"a commitment needs different ids: {len(ids)} given, {len(names)} of them different. "
                "Give each id once, and at least one."
            )
        return cls(salt.hex(), sorted(leaf(leaf_salt(salt, name), name).hex() for name in names))

    @property
    def commitment(self) -> str:
        """The root of the tree, 64 hex digits. It is in the receipt."""
        return root([bytes.fromhex(digest) for digest in self.leaves]).hex()

    def __contains__(self, name: str) -> bool:
        return self._index(name) is not None

    def places(self, names: Sequence[str]) -> list[int]:
        """Return the positions of ids among the sorted leaves, in ascending order. Ids that are not in the set have none."""
        found = (self._index(name) for name in names)
        return sorted(index for index in found if index is not None)

    def _index(self, name: str) -> int | None:
        wanted = leaf(leaf_salt(bytes.fromhex(self.salt), name), name).hex()
        index = bisect_left(self.leaves, wanted)
        return index if self.leaves[index : index + 1] == [wanted] else None

    def prove(self, name: str) -> Proof:
        """Make the proof for one id.

        Raises:
            ExpungeError: The id is not in the set.
        """
        id_salt = leaf_salt(bytes.fromhex(self.salt), name)
        index = self._index(name)
        if index is None:
            raise ExpungeError(
                f"the id {name!r} is not among the {len(self.leaves)} forgotten ids. Give one of them."
            )
        path = siblings([bytes.fromhex(digest) for digest in self.leaves], index)
        return Proof(
            unicodedata.normalize("NFC", name),
            id_salt.hex(),
            index,
            [digest.hex() for digest in path],
            self.receipt,
        )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the secret, readable by its owner only (0600).

        Raises:
            ExpungeError: The file exists. A secret is never replaced.
        """
        write_private(path, file_form({"format": "expunge-secret/v1", **asdict(self)}).decode())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read a secret.

        Raises:
            ExpungeError: The file is not a secret.
        """
        values = _read(path, "expunge-secret/v1", {"salt": str, "leaves": list, "receipt": str})
        if not values["leaves"] or not all(_is_digest(d) for d in [values["salt"], *values["leaves"]]):
            raise ExpungeError(
                f"{path} is damaged: it has no leaves, or a hash that is not 64 hex digits. Use a backup."
            )
        return cls(**values)


def _is_digest(value: Any) -> bool:
    return isinstance(value, str) and len(value) == 64 and all(c in "0123456789abcdef" for c in value)


def _read(path: str | os.PathLike[str], format: str, types: dict[str, type]) -> dict[str, Any]:
    """Read the entries of a file of this format, with exactly these types. Raises `ExpungeError` otherwise."""
    try:
        values = parse(Path(path).read_bytes())
    except (OSError, ExpungeError) as error:
        raise ExpungeError(f"{path} cannot be read as {format}: {error}") from error
    if not isinstance(values, dict) or values.pop("format", None) != format:
        raise ExpungeError(f"{path} is not a file of the format {format}.")
    if {key: type(value) for key, value in values.items()} != types:
        raise ExpungeError(
            f"{path} does not have the entries of {format}: it holds {sorted(values)}, "
            f"allowed are {sorted(types)} with their types."
        )
    return values
