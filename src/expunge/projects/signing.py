"""Sign the receipt of a run of a project later. State and ledger get the signed receipt together with the file."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from shlex import quote
from typing import Any

from ..errors import ExpungeError
from ..receipts.deletion import ids_hash
from ..receipts.keys import fingerprint
from ..receipts.ledger import Ledger
from ..receipts.ledger_rows import read_head
from ..receipts.receipt import Receipt, receipt_paths
from ..records.request_file import read_requests
from .file_checks import check_files
from .folder import LEDGER, MODELS, STATE, Folder, request_file
from .moves import unchanged_ledger
from .places import SETTINGS
from .state import request_entries


def project_of(receipt: Path) -> Folder | None:
    """Return the project that a file is a receipt of; None if it is a receipt of none."""
    path = receipt.resolve()
    root = path.parent.parent
    if path.parent.name != MODELS or not all((root / name).is_file() for name in (SETTINGS, STATE)):
        return None
    folder = Folder(root)
    names = map(_receipt_of, folder.state()["models"][1:])
    return folder if f"{MODELS}/{path.name}" in names else None


def _receipt_of(model: dict[str, Any]) -> str:
    """Return the place of the receipt of a model of a state."""
    return str(Path(model["file"]).with_suffix(".receipt.json"))


def sign_receipt(
    folder: Folder, receipt: Path, sign: Callable[[Receipt], Receipt], say: Callable[[str], None]
) -> tuple[Receipt, list[str]]:
    """Sign a receipt of a project, and attach it to the requests that it answers. All files change together, or none.

    Args:
        folder: The project.
        receipt: The receipt, in its place.
        sign: Returns the signed receipt.
        say: Gets problems of earlier runs.

    Returns:
        The signed receipt, and the state of each request that got it, one sentence each.

    Raises:
        ExpungeError: A file of the project was changed, or the receipt does not fit. Nothing is changed.
    """
    with folder.locked():
        check_files(folder, say)
        state, name = folder.state(), f"{MODELS}/{receipt.name}"
        new = sign(Receipt.load(folder.path / name))
        _check_key(new, folder.path / LEDGER)
        if new.id not in {m.get("receipt") for m in state["models"] if name == _receipt_of(m)}:
            raise ExpungeError(
                f"{folder.path / name} is not the receipt of its run in {STATE}; restore it from a backup."
            )
        with folder.change() as work:
            (work / MODELS).mkdir()
            file = new.save(work / name)
            with Ledger(folder.path / LEDGER).snapshot() as db:
                head = str(read_head(db))
                shutil.copy(folder.path / LEDGER, work / LEDGER)
            ledger = Ledger(work / LEDGER)
            told = _attach(folder, state, ledger, new, file)
            with unchanged_ledger(folder.path / LEDGER, head):
                folder.commit(work, {**state, "ledger": str(ledger.head())})
    return new, told


def _check_key(new: Receipt, book: Path) -> None:
    """Raise `ExpungeError` unless the ledger knows the key of a signed receipt. A ledger without keys takes any."""
    keys, own = Ledger(book).limits.keys, new.envelope["key"]
    if keys and own["public"] not in keys:
        known = ", ".join(fingerprint(bytes.fromhex(key)) for key in keys)
        raise ExpungeError(
            f"{book} does not know the key {own['fingerprint']}, so its requests would not be proved by this signature; sign with a key "
            f"that it knows ({known}), or let it know the new one first: write sign_key in {SETTINGS} and run a command of the project, or "
            f"use `expunge ledger limits {quote(str(book))} --key KEY.pub` with all keys that count."
        )


def _attach(folder: Folder, state: dict[str, Any], ledger: Ledger, new: Receipt, file: Path) -> list[str]:
    """Attach a signed receipt to the requests that are proved by it. Their ids are proved again."""
    known = {past.request: past.ids for past in read_requests(request_file(folder, state))}
    _, secret = receipt_paths(folder.path / MODELS / file.name.removesuffix(".receipt.json"), new.id)
    told = []
    for entry in request_entries(state):
        request = ledger.request(entry.number)
        if request.receipt != new.id or request.status != "done" or not request.proved:
            continue
        ids = entry.what["ids"] or entry.all_ids(known)
        if ids_hash(request.ids_salt, ids) != request.ids_hash:
            raise ExpungeError(
                f"the ids of request {entry.number} are not known any more, so its receipt cannot be attached again; sign a copy of the "
                "receipt (--out), and give it away with a note."
            )
        after = ledger.attach(entry.number, receipt=file, secret=secret, ids=ids, project=True)
        lacks = f"; missing: {'; '.join(after.missing)}" if after.missing else ""
        told.append(f"request {entry.number} is {after.state}{lacks}")
    return told
