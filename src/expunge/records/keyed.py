"""Keyed hashes: what a checkpoint that is handed over says of its split and its requests.

A plain hash depends on the ids only. Anyone with the training data could compute it for every id, and find the forgotten one.
"""

from __future__ import annotations

import hmac
import json
import secrets
from collections.abc import Mapping, Sequence
from typing import Any

from ..data.past_requests import PastRequest
from .checkpoint_totals import HASHES, KEY_ID
from .record import plain

# bytes of a key
KEY_SIZE = 32
# how a keyed hash begins, and how that of a request whose key is lost begins in later files
_MARK, _LOST = "hmac-sha256:", "key lost:"
_CONTEXT = "expunge-metadata/v1"


def new_key() -> bytes:
    """Return a random key for one file."""
    return secrets.token_bytes(KEY_SIZE)


def keyed(key: bytes, name: str, value: str) -> str:
    """Return the HMAC-SHA256 of a value under a key. An empty value stays empty.

    Args:
        key: The key of the file.
        name: The entry of the metadata. The same value has another hash in another entry.
        value: The plain hash. One whose key is lost stays as it is.
    """
    if not value or value.startswith(_LOST):
        return value
    return _MARK + hmac.digest(key, "\0".join((_CONTEXT, name, value)).encode(), "sha256").hex()


def is_plain(stored: str) -> bool:
    """Whether a stored hash can be compared without a key."""
    return not stored.startswith((_MARK, _LOST))


def agrees(stored: str, value: str, name: str, key: bytes | None) -> bool | None:
    """Return whether a stored hash, plain or keyed, is that of a value. None if nobody can tell without the key.

    Args:
        stored: The entry of the metadata.
        value: The plain hash to compare with.
        name: The entry's name.
        key: The key of the file, if it is known.
    """
    if stored == value or is_plain(stored):
        return stored == value
    if key is None or stored.startswith(_LOST):
        return None
    return hmac.compare_digest(stored, keyed(key, name, value))


def without_key(stored: str) -> str:
    """Return how later files name a request of which only the keyed hash is known."""
    return stored if is_plain(stored) or stored.startswith(_LOST) else _LOST + stored.removeprefix(_MARK)


def public_entries(requests: Sequence[PastRequest], key: bytes | None) -> str:
    """Return requests for the metadata of a checkpoint, as JSON. With a key, their hashes are keyed."""
    # `record`, `receipt` and `commitment` cannot be guessed: a record holds times to the nanosecond and the memory of the process,
    # a receipt the hash of its record, and a commitment has a random salt
    entries: list[dict[str, Any]] = plain([r.public() for r in requests])
    if key is not None:
        for entry in entries:
            entry["request"] = keyed(key, "request", entry["request"])
    return json.dumps(entries)


def with_key(metadata: Mapping[str, str], key: bytes) -> dict[str, str]:
    """Return metadata in which every plain hash of sets and requests is keyed.

    Args:
        metadata: The metadata of a checkpoint. Keyed hashes stay as they are.
        key: The key of the new file.
    """
    texts = {**metadata, KEY_ID: keyed(key, KEY_ID, KEY_ID)}
    for name in HASHES:
        if is_plain(texts.get(name, "")):
            texts |= {name: keyed(key, name, texts[name])} if name in texts else {}
    if isinstance(listed := json.loads(texts.get("requests", "null")), list):
        for entry in listed:
            if is_plain(entry["request"]):
                entry["request"] = keyed(key, "request", entry["request"])
        texts["requests"] = json.dumps(listed)
    if isinstance(drawn := json.loads(texts.get("split", "null")), dict):
        texts["split"] = json.dumps({k: v for k, v in drawn.items() if k not in PRIVATE})
    return texts


# entries of a split's description that only its owner may know: hashes that depend on the ids, and the requests of others
PRIVATE = (
    "hash",
    "train_hash",
    "request",
    "earlier",
    "forget_hash",
    "group_values",
    "copies_found",
    "waiting",
)
