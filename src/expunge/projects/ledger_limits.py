"""A project and its ledger: `expunge.toml` names limits, the ledger alone applies them and gives each request its state."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from shlex import quote
from typing import Any

from ..errors import ExpungeError
from ..receipts.keys import load_private, public_bytes, read_passphrase
from ..receipts.ledger import Ledger
from ..receipts.receipt import Receipt
from .entries import Entries
from .folder import LEDGER, STATE, Folder
from .kept_requests import read_answered
from .places import SETTINGS
from .requests import ProjectRequest, receipts_of
from .state import request_entries


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
    ledger: Ledger, requests: Sequence[ProjectRequest], receipts: Mapping[str, Collection[str]]
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
    return Folder(path.parent).locked() if _is_of_project(path) else nullcontext()


def _is_of_project(ledger: Path) -> bool:
    return ledger.name == LEDGER and all((ledger.parent / name).is_file() for name in (SETTINGS, STATE))


def check_receipt(ledger: Path, number: int, receipt: Path) -> None:
    """Raise `ExpungeError` if a ledger is that of a project, one of whose runs has a receipt and did not answer a request that waits."""
    path = ledger.resolve()
    if not _is_of_project(path) or not receipt.is_file():
        return
    folder = Folder(path.parent)
    state, name = folder.state(), Receipt.load(receipt).id
    runs = [run for run, entry in enumerate(state["models"]) if entry.get("receipt") == name]
    known = receipts_of(state, read_answered(folder, state))
    entry = next((e for e in request_entries(state) if e.number == number), None)
    if not runs or entry is None or entry.state != "waiting" or entry.is_answered(name, known):
        return
    reason = f" ({entry.reason})" if entry.reason else ""
    raise ExpungeError(
        f"run {runs[0]} of the project in {folder.path} forgot its samples and did not answer request {number}{reason}, so "
        f"its receipt proves nothing for it; `expunge forget --project {quote(str(folder.path))} --pending` makes a run that does."
    )
