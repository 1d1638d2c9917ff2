"""The tree of a commitment to a set of ids that shows none of them.

Each id is hashed under a salt of its own. A plain hash of a guessable id would show anyone that the id is in the
set, and that is what must be forgotten. The salts are derived from one secret salt with HMAC-SHA-256 (RFC 2104),
so opening one id gives away the salt of that id only.

The hashes are the leaves of a Merkle tree in the shape of RFC 6962. The leaves are sorted by hash, so their order
says nothing about the ids. An odd node rises unchanged: if it were doubled, two sets could share a root. Leaves,
nodes and the root with its count have different first bytes, so none of them can pass as another.

Own code, because its salted leaves hide the ids.
"""

from __future__ import annotations

import hashlib
import hmac
import unicodedata
from collections.abc import Sequence

_SALT_OF = b"expunge-leaf-salt/v1\0"
_LEAF, _NODE, _ROOT = b"\x00", b"\x01", b"\x02"


def leaf_salt(salt: bytes, name: str) -> bytes:
    """Derive the salt of one id (32 bytes) from the secret salt."""
    return hmac.digest(salt, _SALT_OF + _encoded(name), "sha256")


def leaf(id_salt: bytes, name: str) -> bytes:
    """Compute the leaf (32 bytes) of one id under its own salt."""
    return hashlib.sha256(_LEAF + hmac.digest(id_salt, _encoded(name), "sha256")).digest()


def root(leaves: Sequence[bytes]) -> bytes:
    """Compute the commitment (32 bytes) to sorted leaves, at least one, and to their number."""
    return _with_count(_levels(leaves)[-1][0], len(leaves))


def siblings(leaves: Sequence[bytes], index: int) -> list[bytes]:
    """Return the hashes that `root_from_path` needs beside the leaf at `index`.

    There is one hash per level, except at levels where the node has no sibling.
    """
    path = []
    for level in _levels(leaves)[:-1]:
        if index ^ 1 < len(level):
            path.append(level[index ^ 1])
        index //= 2
    return path


def root_from_path(start: bytes, index: int, count: int, path: Sequence[bytes]) -> bytes | None:
    """Compute the root above one leaf.

    Args:
        start: The leaf.
        index: Place of the leaf among the sorted leaves.
        count: Number of leaves.
        path: The hashes from `siblings`.

    Returns:
        The root (32 bytes). None if the index or the length of the path is wrong.
    """
    if not 0 <= index < count:
        return None
    node, width, remaining = start, count, list(path)
    while width > 1:
        if index ^ 1 < width:
            if not remaining:
                return None
            sibling = remaining.pop(0)
            node = _join(sibling, node) if index & 1 else _join(node, sibling)
        index, width = index // 2, (width + 1) // 2
    return None if remaining else _with_count(node, count)


def _encoded(name: str) -> bytes:
    return unicodedata.normalize("NFC", name).encode("utf-8", "surrogatepass")


def _join(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(_NODE + left + right).digest()


def _with_count(top: bytes, count: int) -> bytes:
    return hashlib.sha256(_ROOT + count.to_bytes(8, "big") + top).digest()


def _levels(leaves: Sequence[bytes]) -> list[list[bytes]]:
    """Return the levels of the tree, from the leaves up to one node."""
    levels = [list(leaves)]
    while len(levels[-1]) > 1:
        row = levels[-1]
        above = [_join(row[i], row[i + 1]) for i in range(0, len(row) - 1, 2)]
        levels.append(above + row[-1:] if len(row) % 2 else above)
    return levels
