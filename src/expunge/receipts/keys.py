"""Ed25519 keys (RFC 8032) that sign receipts: PEM files, named by a fingerprint. Needs the extra `sign`."""

from __future__ import annotations

import hashlib
import os
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from ..errors import ExpungeError, MissingExtra
from ..records.atomic_files import atomic, write_private
from ..records.together import together

# Name of the environment variable that holds the passphrase of a locked key.
PASSPHRASE = "EXPUNGE_PASSPHRASE"


def make_key(path: str | os.PathLike[str], passphrase: bytes | None = None) -> str:
    """Make a key pair: the private key in `path`, the public key in `path`.pub.

    Args:
        path: File of the private key (PEM, PKCS8, mode 0600). Existing files are never replaced.
        passphrase: Passphrase that locks the private key. Default: not locked.

    Returns:
        The fingerprint of the public key, 32 hex digits.

    Raises:
        ExpungeError: One of the two files exists.
        MissingExtra: The library `cryptography` is not installed.

    Example:
        >>> make_key("office")
        '3c5d09…'
    """
    crypto = _crypto()
    public_path = Path(f"{os.fspath(path)}.pub")
    if public_path.exists():
        raise ExpungeError(f"{public_path} exists and is not replaced. Move it away, or name another file.")
    key = crypto.Ed25519PrivateKey.generate()
    form = crypto.serialization
    lock = form.NoEncryption() if passphrase is None else form.BestAvailableEncryption(passphrase)
    private = key.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, lock)
    public = key.public_key().public_bytes(form.Encoding.PEM, form.PublicFormat.SubjectPublicKeyInfo)
    # a private key without its public one would refuse the same command, given again after a kill
    with together(Path(path)):
        write_private(path, private.decode())
        with atomic(public_path, replaces=False) as part:
            part.write_bytes(public)
    return fingerprint(public_bytes(key))


def fingerprint(public: bytes) -> str:
    """Return the name of a public key (32 bytes): the first 16 bytes of its SHA-256, as 32 hex digits."""
    return hashlib.sha256(public).hexdigest()[:32]


def read_passphrase(file: str | os.PathLike[str] | None = None) -> bytes | None:
    """Read a passphrase from the first line of `file`, or from the variable EXPUNGE_PASSPHRASE.

    Args:
        file: The file. Default: read the environment variable.

    Returns:
        The passphrase. None if `file` is None and the variable is not set.

    Raises:
        ExpungeError: The file cannot be read, or its first line has not 1 to 1023 bytes.
    """
    if file is None:
        # the bytes as they were given: an error about their encoding would repeat them
        return os.fsencode(os.environ.get(PASSPHRASE, "")) or None
    try:
        passphrase = Path(file).read_bytes().partition(b"\n")[0].rstrip(b"\r")
    except OSError as error:
        raise ExpungeError(f"{file} cannot be read: {error}. Name a file with the passphrase.") from error
    if not 0 < len(passphrase) < 1024:
        raise ExpungeError(
            f"the first line of {file} has {len(passphrase)} bytes; a passphrase has 1 to 1023. "
            "Write the passphrase on the first line."
        )
    return passphrase


def load_private(path: str | os.PathLike[str], passphrase: bytes | None = None) -> Any:
    """Load an Ed25519 private key from a PEM file.

    Args:
        path: The file.
        passphrase: Passphrase of a locked key. Default: the value of EXPUNGE_PASSPHRASE.

    An unlocked key that other users may read costs a warning.

    Raises:
        ExpungeError: The file is not an Ed25519 private key, or the passphrase is missing, wrong or not needed.
        MissingExtra: The library `cryptography` is not installed.
    """
    crypto = _crypto()
    try:
        data = Path(path).read_bytes()
        locked = b"ENCRYPTED" in data
        if not locked and os.name != "nt" and Path(path).stat().st_mode & 0o077:
            warnings.warn(
                f"{path} is a private key that other users of this machine may read or replace; run chmod 600 {path}, and make a new "
                "key if others have used the machine.",
                RuntimeWarning,
                stacklevel=2,
            )
        # The variable applies to locked keys only, so it may stay set while other keys are in use.
        opener = read_passphrase() if passphrase is None and locked else passphrase
        if locked != (opener is not None):
            raise ExpungeError(
                f"{path} is locked: give its passphrase with --passphrase-file, or in {PASSPHRASE}."
                if locked
                else f"{path} is not locked, but a passphrase was given. Leave it out, or name the locked key."
            )
        key = crypto.serialization.load_pem_private_key(data, password=opener)
    except ExpungeError:
        raise
    except (OSError, ValueError, TypeError, crypto.UnsupportedAlgorithm) as error:
        raise ExpungeError(
            f"{path} cannot be read as a private key: {error}. Make a key with `expunge keygen`."
        ) from error
    if not isinstance(key, crypto.Ed25519PrivateKey):
        raise ExpungeError(
            f"{path} is not an Ed25519 private key; only Ed25519 signs receipts. "
            "Make a key with `expunge keygen`."
        )
    return key


def load_public(source: str | os.PathLike[str] | bytes) -> bytes:
    """Load an Ed25519 public key.

    Args:
        source: The key as 32 bytes, as 64 hex digits, or as a PEM file.

    Returns:
        32 bytes.

    Raises:
        ExpungeError: The source is none of these.
        MissingExtra: The source is a file, and the library `cryptography` is not installed.
    """
    if isinstance(source, bytes):
        raw = source
    elif isinstance(source, str) and len(source) == 64 and all(c in "0123456789abcdefABCDEF" for c in source):
        raw = bytes.fromhex(source)
    else:
        crypto = _crypto()
        try:
            key = crypto.serialization.load_pem_public_key(Path(source).read_bytes())
        except (OSError, ValueError, crypto.UnsupportedAlgorithm) as error:
            raise ExpungeError(f"{source} is not a public key: {error}. Give the .pub file.") from error
        if not isinstance(key, crypto.Ed25519PublicKey):
            raise ExpungeError(
                f"{source} is not an Ed25519 public key; only Ed25519 signs receipts. "
                "Give the .pub file of the signer."
            )
        raw = key.public_bytes_raw()
    if len(raw) != 32:
        raise ExpungeError(f"a public key has 32 bytes, but {len(raw)} were given. Give all 32 bytes.")
    return raw


def public_bytes(private: Any) -> bytes:
    """Return the public key (32 bytes) of a private key."""
    return private.public_key().public_bytes_raw()


def signed_by(public: bytes, signature: bytes, message: bytes) -> bool:
    """Return True if the private key of `public` (32 bytes) made this signature (64 bytes) of the message."""
    crypto = _crypto()
    try:
        crypto.Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
    except (crypto.InvalidSignature, ValueError):
        return False
    return True


def _crypto() -> Any:
    """Import the parts of `cryptography` in use. Raises `MissingExtra` without that library."""
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
