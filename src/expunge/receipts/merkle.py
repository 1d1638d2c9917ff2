"""A commitment to a set of ids that shows none of them, and proofs that one id is in it.

An unsalted hash of a guessable id would prove to anyone that it is in the set, the very fact being forgotten.
So each id is hashed under a salt of its own, derived from one secret salt with HMAC-SHA-256 (RFC 2104):
opening one id gives away its own salt only, not the secret. The hashes are the leaves of a Merkle tree in the
shape of RFC 6962 (an odd node rises unchanged: doubling it would let two sets share a root), sorted by hash,
so that their order says nothing. Leaves, nodes and the root with its count have different first bytes, so
that none can be passed off as another.
"""

from __future__ import annotations

import hashlib
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

SALT_BYTES = 32
_SALT_OF = b"expunge-leaf-salt/v1\0"
_LEAF, _NODE, _ROOT = b"\x00", b"\x01", b"\x02"


def leaf_salt(salt: bytes, name: str) -> bytes:
    """The salt of one id: HMAC-SHA-256 of it under the secret `salt`."""
    return hmac.digest(salt, _SALT_OF + _encoded(name), "sha256")


def leaf(own_salt: bytes, name: str) -> bytes:
    """The leaf (32 bytes) of one id under its own salt."""
    return hashlib.sha256(_LEAF + hmac.digest(own_salt, _encoded(name), "sha256")).digest()


def root(leaves: Sequence[bytes]) -> bytes:
    """The commitment (32 bytes) to `leaves`, sorted and at least one, and to their number."""
    return _sealed(_levels(leaves)[-1][0], len(leaves))


def siblings(leaves: Sequence[bytes], index: int) -> list[bytes]:
    """What `climb` needs beside the leaf at `index`: one hash a level, none where a node has no sibling."""
    path = []
    for level in _levels(leaves)[:-1]:
        if index ^ 1 < len(level):
            path.append(level[index ^ 1])
        index //= 2
    return path


def climb(start: bytes, index: int, count: int, path: Sequence[bytes]) -> bytes | None:
    """The root above the leaf `start` at `index` of `count`; None if the path has a wrong length."""
    if not 0 <= index < count:
        return None
    node, width, rest = start, count, list(path)
    while width > 1:
        if index ^ 1 < width:
            if not rest:
                return None
            other = rest.pop(0)
            node = _join(other, node) if index & 1 else _join(node, other)
        index, width = index // 2, (width + 1) // 2
    return None if rest else _sealed(node, count)


def _encoded(name: str) -> bytes:
    return unicodedata.normalize("NFC", name).encode("utf-8", "surrogatepass")


def _join(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(_NODE + left + right).digest()


def _sealed(top: bytes, count: int) -> bytes:
    return hashlib.sha256(_ROOT + count.to_bytes(8, "big") + top).digest()


def _levels(leaves: Sequence[bytes]) -> list[list[bytes]]:
    levels = [list(leaves)]
    while len(levels[-1]) > 1:
        row = levels[-1]
        above = [_join(row[i], row[i + 1]) for i in range(0, len(row) - 1, 2)]
        levels.append(above + row[-1:] if len(row) % 2 else above)
    return levels


@dataclass(frozen=True)
class Proof:
    """That one id is in a commitment. It shows that id, its salt and hashes of others, nothing more."""

    name: str  # the id
    salt: str  # its own salt, 64 hex digits
    index: int
    path: list[str]  # 64 hex digits each
    receipt: str = ""  # the receipt's id, to find it again; the commitment decides

    def holds(self, commitment: str, count: int) -> bool:
        """True if the id is in the set of `count` ids that `commitment` (64 hex digits) is for."""
        top = climb(
            leaf(bytes.fromhex(self.salt), self.name),
            self.index,
            count,
            [bytes.fromhex(p) for p in self.path],
        )
        return top is not None and hmac.compare_digest(top.hex(), commitment)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the proof, for the person whose id it is: the file names that id."""
        write_text(path, file_form({"format": "expunge-proof/v1", **asdict(self)}).decode())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read a proof. Raises `ExpungeError` for anything else."""
        values = _read(
            path, "expunge-proof/v1", {"name": str, "salt": str, "index": int, "path": list, "receipt": str}
        )
        if not all(_is_digest(h) for h in [values["salt"], *values["path"]]):
            raise ExpungeError(f"{path} holds a hash that is not 64 hex digits: ask for the proof again.")
        return cls(**values)


@dataclass(frozen=True)
class Secret:
    """What the holder keeps to open a commitment: the salt and the sorted leaves (64 hex digits), no ids."""

    salt: str
    leaves: list[str]
    receipt: str = ""

    @classmethod
    def of(cls, ids: Sequence[str], salt: bytes | None = None) -> Self:
        """A commitment to `ids`, under a fresh random salt unless one is given. Raises `ExpungeError`
        for none, or an id that is there twice (in Unicode normal form NFC)."""
        salt = secrets.token_bytes(SALT_BYTES) if salt is None else salt
        names = {unicodedata.normalize("NFC", name) for name in ids}
        if not ids or len(names) < len(ids):
            raise ExpungeError(
                f"{len(ids)} ids came, {len(names)} of them different; give each id once, one at least."
            )
        return cls(salt.hex(), sorted(leaf(leaf_salt(salt, name), name).hex() for name in names))

    @property
    def commitment(self) -> str:
        """The root, 64 hex digits."""
        return root([bytes.fromhex(x) for x in self.leaves]).hex()

    def __contains__(self, name: str) -> bool:
        return self._index(name) is not None

    def _index(self, name: str) -> int | None:
        wanted = leaf(leaf_salt(bytes.fromhex(self.salt), name), name).hex()
        place = bisect_left(self.leaves, wanted)
        return place if self.leaves[place : place + 1] == [wanted] else None

    def prove(self, name: str) -> Proof:
        """The proof for one id. Raises `ExpungeError` if the id is not in the set."""
        own = leaf_salt(bytes.fromhex(self.salt), name)
        index = self._index(name)
        if index is None:
            raise ExpungeError(f"the id {name!r} is not among the {len(self.leaves)} that were forgotten.")
        path = siblings([bytes.fromhex(x) for x in self.leaves], index)
        return Proof(
            unicodedata.normalize("NFC", name), own.hex(), index, [p.hex() for p in path], self.receipt
        )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the secret, readable by its owner only (0600). An existing file is never replaced."""
        write_private(path, file_form({"format": "expunge-secret/v1", **asdict(self)}).decode())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read a secret. Raises `ExpungeError` for anything else."""
        values = _read(path, "expunge-secret/v1", {"salt": str, "leaves": list, "receipt": str})
        if not values["leaves"] or not all(_is_digest(h) for h in [values["salt"], *values["leaves"]]):
            raise ExpungeError(f"{path} has no leaves, or a hash that is not 64 hex digits: it was damaged.")
        return cls(**values)


def _is_digest(value: Any) -> bool:
    return isinstance(value, str) and len(value) == 64 and all(c in "0123456789abcdef" for c in value)


def _read(path: str | os.PathLike[str], form: str, kinds: dict[str, type]) -> dict[str, Any]:
    """The entries of one of our files, in the right types; `ExpungeError` otherwise."""
    try:
        values = parse(Path(path).read_bytes())
    except (OSError, ExpungeError) as error:
        raise ExpungeError(f"{path} cannot be read as {form}: {error}") from error
    if not isinstance(values, dict) or values.pop("format", None) != form:
        raise ExpungeError(f"{path} is not a file of the form {form}.")
    if {k: type(v) for k, v in values.items()} != kinds:
        raise ExpungeError(f"{path} holds {sorted(values)} in place of {sorted(kinds)}, or in other types.")
    return values
