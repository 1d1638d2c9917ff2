"""Which files of a project are missing, or do not belong to its state."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..errors import ExpungeError
from ..receipts.ledger import Ledger
from ..receipts.ledger_rows import LedgerHead
from .folder import HELD_OUT, LEDGER, SAMPLES, STATE, Folder, sha256
from .prepared import request_file


def file_problems(folder: Folder, state: dict[str, Any]) -> list[str]:
    """Return which files of a project are missing or do not belong to its state, one sentence each.

    The checkpoint is not read: it may be large.
    """
    entry = state["models"][-1]
    checkpoint = folder.find(entry["file"], state)
    problems = []
    if not checkpoint.is_file():
        problems.append(f"{checkpoint}, the latest model, is missing; restore it from a backup.")
    problems += _changed(
        request_file(folder, state), entry.get("requests"), "the ids of all answered requests"
    )
    if drawn := state.get("drawn"):
        problems += _changed(folder.find(HELD_OUT, state), drawn["held_out"], "the ids of the validation set")
        problems += _changed(
            folder.find(SAMPLES, state), drawn.get("samples"), "the fingerprints of all samples"
        )
    return problems + _ledger_problems(folder, state)


def _changed(path: Path, digest: str | None, content: str) -> list[str]:
    if digest and not path.is_file():
        return [f"{path} with {content} is missing; restore it from a backup."]
    if digest and sha256(path) != digest:
        return [f"{path} with {content} was changed; restore it from a backup."]
    return []


def _ledger_problems(folder: Folder, state: dict[str, Any]) -> list[str]:
    """Return why the ledger is not that of the project. A new one would lose the proofs of its requests."""
    path, count = folder.find(LEDGER, state), len(state["requests"])
    if not count:
        return []
    remedy = "restore it from a backup, or begin a new project with `expunge init` and the latest model"
    if not path.is_file():
        return [f"{path} is missing, and {STATE} lists {count} requests; {remedy}."]
    try:
        ledger = Ledger(path)
        noted = state.get("ledger")
        known = ledger.has(LedgerHead.of(noted)) if noted else ledger.count() >= count
    except ExpungeError as error:
        return error.problems
    return [] if known else [f"{path} is not the ledger of the {count} requests in {STATE}; {remedy}."]
