"""Sign a receipt with a private key."""

from __future__ import annotations

import hashlib
import os
from datetime import UTC, datetime

from .canonical import sha256
from .keys import fingerprint, load_private, public_bytes
from .receipt import Receipt

# With these prefixes, the signature of a receipt is valid for nothing else.
SIGN_STATEMENT = b"expunge-receipt/v1\0"
SIGN_ENVELOPE = b"expunge-envelope/v1\0"


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
