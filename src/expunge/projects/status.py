"""What `expunge status` reads: the requests with their states in the ledger, and what is wrong with files and settings."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..errors import ExpungeError
from ..receipts.deletion import Request as LedgerRequest
from ..receipts.ledger import Ledger
from .fixed_settings import setting_problems
from .folder import LEDGER, Folder
from .kept_requests import read_answered
from .ledger_limits import public_key, read_states
from .pins import run_was_made
from .requests import ProjectRequest, receipts_of
from .settings import read_settings
from .shown_status import ProjectStatus
from .state import request_entries


def completed(folder: Folder, status: ProjectStatus) -> ProjectStatus:
    """Return the status of the files with the states in the ledger, and with what is wrong with the settings."""
    state = folder.state()
    others = states_from_file(folder, state, status.requests)
    return replace(status, wrong=tuple(settings_problems(folder, state)), in_ledger=tuple(others))


def status_values(found: ProjectStatus) -> dict[str, Any]:
    """Return a status as JSON holds it: what `expunge status` prints, with the scores of each request, and no ids of samples."""
    kept = ("number", "subject", "kind", "samples", "due", "run", "then", "now", "audited", "gone", "not_shown", "unreliable_mia",
            "scores_of", "reason", "missing")  # fmt: skip
    requests = [
        {
            **{name: getattr(r, name) for name in kept},
            "missing": list(r.missing),
            "state": r.shown_state,
            "overdue": r.is_overdue(found.today),
        }
        for r in found.listed
    ]
    return {
        "model": found.model,
        "today": found.today.isoformat(),
        "requests": requests,
        "problems": list(found.problems),
        "wrong_settings": list(found.wrong),
        "old_models": list(found.old_models),
        "exit_code": found.exit_code,
    }


def settings_problems(folder: Folder, state: dict[str, Any]) -> list[str]:
    """Return what is wrong with `expunge.toml`, one sentence each: entries, key, and what the first request has fixed."""
    try:
        settings = read_settings(folder.settings_file)
    except ExpungeError as error:
        return error.problems
    problems = setting_problems((state.get("drawn") or {}) if run_was_made(state) else {}, settings)
    try:
        public_key(settings)
    except ExpungeError as error:
        problems += error.problems
    return problems


def states_from_file(
    folder: Folder, state: dict[str, Any], requests: Sequence[ProjectRequest]
) -> list[ProjectRequest]:
    """Let requests have the states that the ledger gives them. A ledger that is missing or broken gives none.

    Returns:
        The requests that only the ledger has.
    """
    path = folder.find(LEDGER, state)
    if path.is_file():
        with suppress(ExpungeError):
            receipts = receipts_of(state, read_answered(folder, state))
            return read_states(Ledger(path), requests, receipts)
    return []


def doubted(ledger: Path, requests: Sequence[LedgerRequest]) -> list[LedgerRequest]:
    """Return requests of a ledger, and say of those in a project's ledger whose receipt is of no run of it that it proves nothing.

    Args:
        ledger: The ledger. One that lies in no project knows no models, and its requests stay as they are.
        requests: Its requests.
    """
    if ledger.name != LEDGER:
        return list(requests)
    with suppress(ExpungeError):
        folder = Folder(ledger.parent)
        state = folder.state()
        entries = request_entries(state)
        in_ledger = states_from_file(folder, state, entries)
        foreign = {r.number: r.missing[-1] for r in [*entries, *in_ledger] if r.foreign}
        return [replace(r, doubt=foreign.get(r.number, "")) for r in requests]
    return list(requests)
