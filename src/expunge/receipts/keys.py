"""Ed25519 keys (RFC 8032) for receipts: PEM files, named by a fingerprint. Needs the extra `sign`."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from ..errors import ExpungeError, MissingExtra
from ..records.atomic_files import write_private, write_text

PASSPHRASE = "EXPUNGE_PASSPHRASE"  # the environment variable that opens locked keys


def make_key(path: str | os.PathLike[str], passphrase: bytes | None = None) -> str:
    """Make a key pair: the private key in `path` (PEM, PKCS8, 0600, locked with `passphrase` if there is one), the public
    one in `path`.pub.

    Returns the fingerprint of the public key. Existing files are never replaced. Raises `MissingExtra`
    without `cryptography`.
    """
    crypto = _crypto()
    public_path = Path(f"{os.fspath(path)}.pub")
    if public_path.exists():
        raise ExpungeError(f"{public_path} exists and is not replaced. Move it away, or name another file.")
    key = crypto.Ed25519PrivateKey.generate()
    form = crypto.serialization
    lock = form.NoEncryption() if passphrase is None else form.BestAvailableEncryption(passphrase)
    private = key.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, lock)
    write_private(path, private.decode())
    public = key.public_key().public_bytes(form.Encoding.PEM, form.PublicFormat.SubjectPublicKeyInfo)
    write_text(public_path, public.decode())
    return fingerprint(public_bytes(key))


def fingerprint(public: bytes) -> str:
    """A name for a public key (32 bytes): the first 16 bytes of its SHA-256, 32 hex digits."""
    return hashlib.sha256(public).hexdigest()[:32]


def read_passphrase(file: str | os.PathLike[str] | None = None) -> bytes | None:
    """A passphrase: the first line of `file`, else what EXPUNGE_PASSPHRASE holds, else None. Raises `ExpungeError` for a
    file without one."""
    if file is None:
        return os.environ.get(PASSPHRASE, "").encode() or None
    try:
        found = Path(file).read_bytes().partition(b"\n")[0].rstrip(b"\r")
    except OSError as error:
        raise ExpungeError(f"{file} cannot be read: {error}. Name a file with the passphrase.") from error
    if not 0 < len(found) < 1024:
        raise ExpungeError(
            f"the first line of {file} has {len(found)} bytes; a passphrase has 1 to 1023, on the first line."
        )
    return found


def load_private(path: str | os.PathLike[str], passphrase: bytes | None = None) -> Any:
    """The Ed25519 key in a PEM file, opened with `passphrase`, or what EXPUNGE_PASSPHRASE holds, if it is locked. Raises
    `ExpungeError` for all other files."""
    crypto = _crypto()
    try:
        data = Path(path).read_bytes()
        locked = b"ENCRYPTED" in data
        given = read_passphrase() if passphrase is None and locked else passphrase
        if locked != (given is not None):
            raise ExpungeError(
                f"{path} is locked: give its passphrase with --passphrase-file, or in {PASSPHRASE}."
                if locked
                else f"{path} is not locked, and a passphrase came: leave it out, or name the locked key."
            )
        key = crypto.serialization.load_pem_private_key(data, password=given)
    except ExpungeError:
        raise
    except (OSError, ValueError, TypeError, crypto.UnsupportedAlgorithm) as error:
        raise ExpungeError(
            f"{path} cannot be read as a private key: {error}. Make one with `expunge keygen`."
        ) from error
    if not isinstance(key, crypto.Ed25519PrivateKey):
        raise ExpungeError(f"{path} is another kind of private key; receipts are signed with Ed25519.")
    return key


def load_public(source: str | os.PathLike[str] | bytes) -> bytes:
    """A public key (32 bytes) from those bytes, 64 hex digits or a PEM file; else raises `ExpungeError`."""
    if isinstance(source, bytes):
        raw = source
    elif isinstance(source, str) and len(source) == 64 and all(c in "0123456789abcdefABCDEF" for c in source):
        raw = bytes.fromhex(source)
    else:
        crypto = _crypto()
        try:
            key = crypto.serialization.load_pem_public_key(Path(source).read_bytes())
        except (OSError, ValueError, crypto.UnsupportedAlgorithm) as error:
            raise ExpungeError(f"{source} is no public key: {error}. Give the .pub file.") from error
        if not isinstance(key, crypto.Ed25519PublicKey):
            raise ExpungeError(f"{source} is another kind of public key; receipts are signed with Ed25519.")
        raw = key.public_bytes_raw()
    if len(raw) != 32:
        raise ExpungeError(f"a public key has 32 bytes; {len(raw)} came.")
    return raw


def public_bytes(private: Any) -> bytes:
    """The public key (32 bytes) of a private one."""
    return private.public_key().public_bytes_raw()


def signed_by(public: bytes, signature: bytes, message: bytes) -> bool:
    """True if `signature` (64 bytes) of `message` was made with the private key of `public` (32 bytes)."""
    crypto = _crypto()
    try:
        crypto.Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
    except (crypto.InvalidSignature, ValueError):
        return False
    return True


def _crypto() -> Any:
    """What is used of `cryptography`, asked for only here."""
    try:
        from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ed25519
    except ImportError as error:
        raise MissingExtra("signing receipts and checking signatures", "sign") from error

    return SimpleNamespace(
        Ed25519PrivateKey=ed25519.Ed25519PrivateKey,
        Ed25519PublicKey=ed25519.Ed25519PublicKey,
        serialization=serialization,
        InvalidSignature=InvalidSignature,
        UnsupportedAlgorithm=UnsupportedAlgorithm,
    )
