"""Compare the files of a run with its receipt, and the receipt with the ledger. `state.json` alone vouches for nothing."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from safetensors.torch import load_file

from ..errors import ExpungeError
from ..receipts.commitment import Secret
from ..receipts.issue import record_hash
from ..receipts.ledger import Ledger
from ..receipts.receipt import Receipt, receipt_paths
from ..receipts.verify import verify
from ..records.hashing import model_hash, state_hash
from .folder import LEDGER, STATE, Folder, sha256
from .requests import AUDIT

_BACKUP = "restore it from a backup"


def run_files(state: dict[str, Any], number: int) -> dict[str, str]:
    """Return {place: what it is} of the files that prove a run, without the audits of single requests."""
    model, receipt = Path(state["models"][number]["file"]), state["models"][number]["receipt"]
    of_receipt, of_secret = receipt_paths(model, receipt)
    return {
        str(model.with_suffix(".json")): "the record",
        str(of_receipt): "the receipt",
        str(of_secret): "the secret",
    }


def audits_of(state: dict[str, Any]) -> dict[str, list[str]]:
    """Return {place of a model without its ending: places of the audits of single requests of its run}."""
    audits: dict[str, list[str]] = {}
    for name in state.get("files", {}):
        model, mark, _ = name.partition(AUDIT)
        if mark:
            audits.setdefault(model, []).append(name)
    return audits


def model_problems(folder: Folder, state: dict[str, Any]) -> list[str]:
    """Return why the latest model is not the one that the ledger knows. The model is read."""
    number, entry = len(state["models"]) - 1, state["models"][-1]
    path, book = folder.find(entry["file"], state), folder.find(LEDGER, state)
    try:
        digest = _hash_of_run(folder, state, number) if number else _first_hash(path)
        receipts = Ledger(book).receipts(of_project=True) if not number and book.is_file() else []
        named = Ledger(book).receipts(digest, of_project=True) if book.is_file() and digest else []
        if number and (problems := _receipt_problems(folder, state, number, digest)):
            return problems
    except ExpungeError as error:
        return error.problems
    later = [r for r in named if r["statement"]["model_before"] == digest]
    if later:
        return [
            f"the run of the receipt {later[-1]['id']} in {book} started from {path}, so this is not the latest model; restore "
            f"the latest {STATE} and its files from a backup."
        ]
    if receipts and not any(r["statement"]["model_after"] == digest for r in receipts):
        return [
            f"{path} is not a model of a run in {book}, and {STATE} lists no run; restore {STATE} and the models from a backup."
        ]
    return []


def _hash_of_run(folder: Folder, state: dict[str, Any], number: int) -> str:
    """The hash of the model of a run, as its receipt has it: some models have a prefix that reading a file removes."""
    path = folder.find(state["models"][number]["file"], state)
    receipt = folder.find(str(Path(state["models"][number]["file"]).with_suffix(".receipt.json")), state)
    expected = Receipt.load(receipt).statement.get("model_after") if receipt.is_file() else ""
    digest = model_hash(path)
    if digest == expected:
        return digest
    whole = state_hash(load_file(path))
    return whole if whole == expected else digest


def _first_hash(path: Path) -> str:
    """The hash of the first model. A file with several models, or with quantized tensors, may have none."""
    try:
        return model_hash(path)
    except ExpungeError:
        return ""


def run_problems(folder: Folder, state: dict[str, Any], number: int, with_model: bool = False) -> list[str]:
    """Return which files of a run do not belong to its receipt, and why the ledger does not know the receipt.

    Args:
        folder: The project.
        state: Its state.
        number: The run, from 1.
        with_model: Also read the model, if its file is still there.
    """
    places = {what: folder.find(name, state) for name, what in run_files(state, number).items()}
    model = folder.find(state["models"][number]["file"], state)
    try:
        present = with_model and model.is_file()
        digest = _hash_of_run(folder, state, number) if present else None
        problems = _receipt_problems(folder, state, number, digest)
        if present and not problems and sha256(model) != state["models"][number]["sha256"]:
            problems.append(
                f"{model} has the parameters of run {number}, and other bytes were changed; {_BACKUP}."
            )
        if not problems:
            statement = Receipt.load(places["the receipt"]).statement
            secret = Secret.load(places["the secret"])
            if record_hash(places["the record"]) != statement["record"]:
                problems.append(f"{places['the record']} is not the record of run {number}; {_BACKUP}.")
            if secret.commitment != statement["forget_commitment"]:
                problems.append(f"{places['the secret']} is not the secret of run {number}; {_BACKUP}.")
    except ExpungeError as error:
        return error.problems
    return problems


def _receipt_problems(folder: Folder, state: dict[str, Any], number: int, digest: str | None) -> list[str]:
    """Check a receipt by itself, with the runs around it, with the ledger, and with the hash of its model."""
    models = state["models"]
    path = folder.find(str(Path(models[number]["file"]).with_suffix(".receipt.json")), state)
    if not path.is_file():
        return [f"{path}, the receipt of run {number}, is missing; {_BACKUP}."]
    failed = [check for check in verify(path) if not check.ok]
    if failed and failed[0].name == "signature" and not _can_check_signatures():
        return [f"{path}, the receipt of run {number}, is {failed[0].message}"]
    if failed:
        return [f"{path}, the receipt of run {number}, is not valid: {failed[0].message}; {_BACKUP}."]
    receipt = Receipt.load(path)
    statement, parent = receipt.statement, models[number - 1].get("receipt") or None
    if receipt.id != models[number]["receipt"] or (number > 1 and statement["parent"] != parent):
        return [f"{path} is not the receipt of run {number} in {STATE}; {_BACKUP}."]
    book = folder.find(LEDGER, state)
    # a missing ledger is reported once, by the checks of the project
    ledger = Ledger(book) if book.is_file() else None
    if ledger and not ledger.answered_by(receipt.id) and not _record_is_known(ledger, statement):
        return [
            f"{ledger.path} does not know the receipt {receipt.id} of run {number}; restore both from a backup."
        ]
    if digest is not None and statement["model_after"] != digest:
        return [
            f"{models[number]['file']} is not the model of its receipt {receipt.id}: its hash is {digest[:12]}, and the receipt "
            f"has {statement['model_after'][:12]}; {_BACKUP}."
        ]
    return []


def _can_check_signatures() -> bool:
    return find_spec("cryptography") is not None


def _record_is_known(ledger: Ledger, statement: dict[str, Any]) -> bool:
    """Whether a request was answered by the run alone: its data had lost samples, so no receipt could prove it."""
    requests = [ledger.request(n) for n in ledger.answered_by(statement["record"])]
    return any(r.run == statement["record"] and r.model == statement["model_after"] for r in requests)
