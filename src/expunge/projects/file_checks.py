"""Which files of a project are missing, or do not belong to its state."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

from ..days import utc_today
from ..errors import ExpungeError, raise_all
from ..receipts.ledger import Ledger
from ..receipts.ledger_rows import LedgerHead
from .arguments import check_day
from .file_stats import file_stat
from .folder import HELD_OUT, LEDGER, MODELS, REPORT, SAMPLES, STATE, Folder, request_file, sha256
from .later_runs import later_run_problems
from .moves import lost_rows
from .places import place_problems
from .run_checks import audits_of, model_problems, run_files, run_problems
from .seal import broken_seal
from .shown_status import ProjectStatus
from .state import request_entries
from .state_checks import id_problems, state_problems

_BACKUP = "restore it from a backup"


def check_files(folder: Folder, say: Callable[[str], None]) -> None:
    """Check the files before a command uses them. Problems of earlier runs, which stop no new one, go to `say`.

    Raises:
        ExpungeError: A file that is needed is missing or does not belong to the state. All are listed.
    """
    _, problems, of_evidence = _settled(folder, trusts=True)
    raise_all(problems)
    for text in of_evidence:
        say(text)


def project_status(folder: Folder, today: date | None = None, full: bool = False) -> ProjectStatus:
    """Return what `Project.status` returns."""
    check_day(today)
    state, problems, of_evidence = _settled(folder, full)
    return ProjectStatus(
        request_entries(state),
        state["models"][-1]["file"],
        today or utc_today(),
        tuple(dict.fromkeys(problems + of_evidence)),
        tuple(_old_models(folder, state)),
    )


def _settled(
    folder: Folder, full: bool = False, trusts: bool = False
) -> tuple[dict[str, Any], list[str], list[str]]:
    """Return the state, and what is wrong with needed files and with evidence. A commit during the checks starts them again."""
    while True:
        state = folder.state()
        problems = place_problems(folder.path, (LEDGER, STATE), MODELS) + file_problems(folder, state)
        of_evidence = evidence_problems(folder, state, full, trusts=trusts)
        if not (problems or of_evidence) or folder.state() == state:
            return state, problems, of_evidence


def file_problems(folder: Folder, state: dict[str, Any], *, sealed: bool = True) -> list[str]:
    """Return which files that the next command needs are missing or do not belong to the state, one sentence each.

    The latest model is read: its hash must be the one that its receipt and the ledger have.

    Args:
        folder: The project.
        state: Its state.
        sealed: Whether the state must have the seal of Expunge.
    """
    if later := later_run_problems(folder.path, state, MODELS, STATE, folder.find(LEDGER, state), Ledger):
        # what else is wrong follows from the older state
        return later
    of_ledger = _ledger_problems(folder, state)
    if not of_ledger and (of_state := _state_problems(folder, state, sealed)):
        # what follows from a wrong state would only confuse
        return of_state
    entry = state["models"][-1]
    checkpoint = folder.find(entry["file"], state)
    problems = []
    if not checkpoint.is_file():
        problems.append(f"{checkpoint}, the latest model, is missing; {_BACKUP}.")
    problems += _changed(checkpoint, entry["sha256"] if checkpoint.is_file() else None, "the latest model")
    problems += _changed(
        request_file(folder, state), entry.get("requests"), "the ids of all answered requests"
    )
    if drawn := state.get("drawn"):
        problems += _changed(folder.find(HELD_OUT, state), drawn["held_out"], "the ids of the validation set")
        problems += _changed(
            folder.find(SAMPLES, state), drawn.get("samples"), "the fingerprints of all samples"
        )
    if not problems and not of_ledger:
        problems = model_problems(folder, state) or id_problems(folder, state)
    return problems + of_ledger


def evidence_problems(
    folder: Folder, state: dict[str, Any], full: bool = False, missing: bool = True, trusts: bool = False
) -> list[str]:
    """Return which files that prove earlier runs are missing or were changed, one sentence each.

    Models and request files of earlier runs may be deleted, and so may the report: the next run writes a new one.

    Args:
        folder: The project.
        state: Its state.
        full: Also compare each record, secret and older model with its receipt. This reads all of them.
        missing: Whether a missing file is a problem.
        trusts: Do not read a file whose size, time of change and inode are those of its last check.
    """
    hashes, last = state.get("files", {}), len(state["models"]) - 1
    problems, incomplete, audits = [], set(), audits_of(state)
    noted = state.get("stats", {}) if trusts else {}
    for number in range(1, len(state["models"])):
        of_run = dict.fromkeys(
            audits.get(str(Path(state["models"][number]["file"]).with_suffix("")), ()), "an audit"
        )
        for name, content in (of_run | run_files(state, number)).items():
            path = folder.find(name, state)
            found = file_stat(path)
            if found is None:
                incomplete.add(number)
                if missing:
                    problems.append(f"{path}, {content} of run {number}, is missing; {_BACKUP}.")
            elif name in hashes and found != noted.get(name):
                if sha256(path) != hashes[name]:
                    problems.append(f"{path}, {content} of run {number}, was changed; {_BACKUP}.")
                else:
                    folder.checked[name] = found
    report = folder.find(REPORT, state)
    if report.is_file() and REPORT in hashes and sha256(report) != hashes[REPORT]:
        problems.append(f"{report} was changed; {_BACKUP}, or delete it: the next run writes a new one.")
    if problems:
        return problems
    # in a project of an earlier version no hash of a file is known
    numbers = range(1, last + 1) if full or not hashes else range(last, last + 1)
    return [
        text
        for n in numbers
        if n and n not in incomplete
        for text in run_problems(folder, state, n, with_model=full)
    ]


def problems_unsealed(folder: Folder, state: dict[str, Any]) -> tuple[list[str], list[str]]:
    """Return what is wrong with the files that the next command needs, seal apart, and with those of earlier runs that are there."""
    of_files = file_problems(folder, state, sealed=False)
    return of_files, [] if of_files else evidence_problems(folder, state, full=True, missing=False)


def _old_models(folder: Folder, state: dict[str, Any]) -> list[str]:
    """Return the files of earlier models that are still there. They know what later requests removed."""
    return [entry["file"] for entry in state["models"][:-1] if folder.find(entry["file"], state).is_file()]


def _changed(path: Path, digest: str | None, content: str) -> list[str]:
    if digest and not path.is_file():
        return [f"{path} with {content} is missing; {_BACKUP}."]
    if digest and sha256(path) != digest:
        return [f"{path} with {content} was changed; {_BACKUP}."]
    return []


def _ledger_problems(folder: Folder, state: dict[str, Any]) -> list[str]:
    """Return why the ledger is not that of the project. A new one would lose the proofs of its requests."""
    path, count = folder.find(LEDGER, state), len(state["requests"])
    remedy = "restore it from a backup, or begin a new project with `expunge init` and the latest model"
    if not path.is_file():
        return [f"{path} is missing, and {STATE} lists {count} requests; {remedy}."]
    try:
        kept = folder.path / LEDGER
        if path != kept and kept.is_file() and (lost := lost_rows(kept, path)):
            return [lost]
        ledger = Ledger(path)
        noted = state.get("ledger")
        known = ledger.has(LedgerHead.of(noted)) if noted else ledger.count() >= count
        if not known:
            return [f"{path} is not the ledger of the {count} requests in {STATE}; {remedy}."]
        failed = [check.message for check in ledger.check(remember=False) if not check.ok]
    except ExpungeError as error:
        return error.problems
    return [f"{path} was changed: {text}; {_BACKUP}." for text in failed]


def _state_problems(folder: Folder, state: dict[str, Any], sealed: bool) -> list[str]:
    """Return what was changed in the state by hand, and where it is not that of the ledger."""
    path = folder.find(LEDGER, state)
    try:
        broken = broken_seal(folder.path / STATE, state, path) if sealed else []
        return broken + state_problems(folder, state, Ledger(path))
    except ExpungeError as error:
        return error.problems
