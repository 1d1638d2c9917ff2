"""A project and its ledger: `expunge.toml` names limits, the ledger alone applies them and gives each request its state."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from ..receipts.keys import load_private, public_bytes, read_passphrase
from ..receipts.ledger import Ledger
from .entries import Entries
from .folder import LEDGER, SETTINGS, STATE, Folder
from .requests import ProjectRequest


def signing_key(settings: Entries) -> tuple[Path | None, bytes | None]:
    """Return the file of the private key and its passphrase; None for each that the settings do not name."""
    key, passphrase = settings.sign_key, settings.passphrase_file
    return (
        Path(key).expanduser() if key else None,
        read_passphrase(Path(passphrase).expanduser()) if passphrase else None,
    )


def public_key(settings: Entries) -> str:
    """Return the public key (64 hex digits) of the key that signs receipts; empty without one.

    Raises:
        ExpungeError: The key cannot be opened.
    """
    key, passphrase = signing_key(settings)
    return public_bytes(load_private(key, passphrase)).hex() if key is not None else ""


def write_limits(ledger: Ledger, settings: Entries, say: Callable[[str], None]) -> None:
    """Write `max_gap` and the public key of `expunge.toml` into the ledger, if it has others.

    The key joins those that the ledger has, so that receipts of an earlier key still count.
    """
    changes: dict[str, Any] = {}
    limits, public = ledger.limits, public_key(settings)
    if settings.max_gap is not None and settings.max_gap != limits.max_gap:
        changes["max_gap"] = settings.max_gap
    if public and public not in limits.keys:
        changes["keys"] = [*limits.keys, public]
    if changes:
        ledger.set_limits(**changes)
        say(
            f"the ledger gets the {' and the '.join(changes)} of expunge.toml; they apply to all its requests."
        )


def read_states(
    ledger: Ledger, requests: Sequence[ProjectRequest], receipts: Collection[str]
) -> list[ProjectRequest]:
    """Let requests have the states that the ledger gives them. Return the requests that only the ledger has.

    `receipts` are those of the project (`receipts_of`). A request that was closed with another one is not proved.
    """
    own = {request.number: request for request in requests}
    others = []
    for entry in ledger.requests():
        if entry.number in own:
            own[entry.number].read_ledger(entry, receipts)
        elif not entry.project:
            others.append(ProjectRequest.of_ledger(entry, receipts))
    return others


def ledger_lock(ledger: Path) -> AbstractContextManager[None]:
    """Return the lock of the project that a ledger file belongs to, or a lock of nothing."""
    path = ledger.resolve()
    inside = path.name == LEDGER and all((path.parent / name).is_file() for name in (SETTINGS, STATE))
    return Folder(path.parent).locked() if inside else nullcontext()
