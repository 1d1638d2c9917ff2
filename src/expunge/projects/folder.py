"""The files of a project: its lock, its state, and changes that are made whole or not at all.

A change is written into a hidden folder. One rename of `state.json` commits it. The state lists the moves that bring the
files to their places; the next command finishes moves that a kill interrupted, and removes what was never committed.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ..errors import ExpungeError, raise_all
from ..receipts.ledger_name import ledger_name
from ..records.atomic_files import write_json
from ..records.part_files import private_folder
from ..records.request_file import requests_path
from .file_stats import stats_of
from .lock_owner import check_kept, kept, take
from .moves import check_targets, finish_moves, flush, make_moves
from .places import MAKING, SETTINGS, place_problems
from .seal import broken_seal, seal_key, sealed
from .state import FORMAT, read_state
from .system_errors import system_error, unwritable
from .turns import ONE_AT_A_TIME

STATE = "state.json"
LEDGER = "ledger.db"
REPORT = "report.html"
HELD_OUT = "held_out.json"
SAMPLES = "samples.npz"
MODELS = "models"
LOCK = ".lock"
WORK = ".work-"


class Folder:
    """Hold the files of a project.

    Args:
        path: The folder.

    Raises:
        ExpungeError: The folder has no project.
    """

    def __init__(self, path: Path | str):
        self.path = Path(path)
        # `file_stat` of evidence that was checked; the next commit notes it
        self.checked: dict[str, list[int]] = {}
        self._lock: int | None = None
        missing = [name for name in (SETTINGS, STATE) if not (self.path / name).is_file()]
        if missing:
            raise ExpungeError(
                f"{self.path} is no project: {' and '.join(missing)} {'are' if len(missing) > 1 else 'is'} missing; make one with "
                "`expunge init`, or name its folder with --project."
            )

    @property
    def settings_file(self) -> Path:
        """The file of the project's settings."""
        return self.path / SETTINGS

    def state(self) -> dict[str, Any]:
        """Return the committed state. Raises `ExpungeError` if it cannot be read, or has missing or wrong entries."""
        return read_state(self.path / STATE)

    def find(self, name: str, state: dict[str, Any]) -> Path:
        """Return where a committed file of a state is, also if a kill interrupted its move."""
        for source, target in state.get("moves", []):
            if target == name and (self.path / source).exists():
                return self.path / str(source)
        return self.path / name

    @contextmanager
    def locked(self, wait: float = 0.0) -> Iterator[None]:
        """Keep other commands and threads out of the folder, and finish or remove what a killed one left. The lock ends with its process.

        Args:
            wait: Seconds to wait for another command.

        Raises:
            ExpungeError: Another command works in the folder, a file lies elsewhere (`place_problems`), or the system refuses to
                write or read a file in the block.
        """
        place = self.path / LOCK
        file = take(place, wait)
        try:
            with kept(file, place), ONE_AT_A_TIME:
                raise_all(place_problems(self.path, (LEDGER, STATE), MODELS))
                self.recover()
                self._lock = file
                yield
        except OSError as error:
            if (told := system_error(self.path, error)) is None:
                raise
            raise told from error
        finally:
            self._lock = None
            os.close(file)

    def recover(self) -> None:
        """Finish the moves of the last commit, and remove what was never committed. The lock must be held.

        Raises:
            ExpungeError: A file cannot be moved, the list of moves was changed, or the ledger got rows in the meantime. All files
                stay where the next attempt finds them.
        """
        state = self.state()
        if moves := self.open_moves(state):
            raise_all(broken_seal(self.path / STATE, state, self.find(LEDGER, state)))
            check_targets(self.path, state["moves"], MODELS)
            finish_moves(self.path, moves, LEDGER)
        self._remove_leftovers()

    def open_moves(self, state: dict[str, Any]) -> list[tuple[str, str]]:
        """Return the moves of a state that a kill interrupted."""
        return [(s, t) for s, t in state.get("moves", []) if (self.path / s).exists()]

    def _remove_leftovers(self) -> None:
        for left in self.path.glob(f"{WORK}*"):
            shutil.rmtree(left, ignore_errors=True)
        # `init` was killed right behind the rename that made the project
        with suppress(OSError):
            (self.path / MAKING).unlink(missing_ok=True)

    @contextmanager
    def change(self) -> Iterator[Path]:
        """Yield a hidden folder for the new files of a change. It is removed if the block raises before the change is committed."""
        try:
            work = Path(tempfile.mkdtemp(prefix=WORK, dir=self.path))
        except OSError as error:
            raise unwritable(self.path, error) from error
        try:
            yield work
        finally:
            if not self._committed(work):
                shutil.rmtree(work, ignore_errors=True)

    def _committed(self, work: Path) -> bool:
        """Return whether `state.json` needs files of a hidden folder. One that cannot be read may need them."""
        try:
            moves = json.loads((self.path / STATE).read_text(encoding="utf-8")).get("moves", [])
        except (OSError, ValueError):
            return True
        return any(Path(s).parts[0] == work.name and (self.path / s).exists() for s, _ in moves)

    def commit(self, work: Path, state: dict[str, Any]) -> None:
        """Make the files below `work` and a new state the folder's.

        Args:
            work: The folder of `change`. Its files have the places that they get in the project.
            state: The new state.

        Raises:
            ExpungeError: A file cannot be written. Once the new state is there, the next command finishes the change.

        The caller keeps other processes from writing into the ledger.
        """
        files = [f for f in sorted(work.rglob("*")) if f.is_file()]
        for file in files:
            flush(file)
        moves = [(str(f.relative_to(self.path)), str(f.relative_to(work))) for f in files]
        check_targets(self.path, moves, MODELS)
        hashes = {**state.get("files", {}), **_hashes(work, files)}
        try:
            ledger = work / LEDGER if (work / LEDGER).exists() else self.path / LEDGER
            stats = stats_of(work, files, {**state.get("stats", {}), **self.checked}, hashes)
            if self._lock is not None:
                check_kept(self._lock, self.path / LOCK)
            write_state(self.path / STATE, {**state, "moves": moves, "files": hashes, "stats": stats}, ledger)
        except OSError as error:
            raise unwritable(self.path / STATE, error) from error
        flush(self.path)
        # from here on the change is made: a kill leaves the rest to the next command
        make_moves(self.path, moves)
        self._remove_leftovers()

    def __repr__(self) -> str:
        return f"Folder({self.path})"


def _hashes(work: Path, files: list[Path]) -> dict[str, str]:
    """Return {place: SHA-256} of the files of a change. The ledger also changes by hand; models have their own entry."""
    names = ((str(f.relative_to(work)), f) for f in files)
    return {name: sha256(f) for name, f in names if name != LEDGER and not _is_model(name)}


def _is_model(name: str) -> bool:
    return name.startswith(f"{MODELS}/") and not name.endswith(".json")


def request_file(folder: Folder, state: dict[str, Any]) -> Path:
    """Return the place of the request file of the latest model."""
    return folder.find(str(requests_path(Path(state["models"][-1]["file"]))), state)


def check_new(path: Path) -> None:
    """Raise `ExpungeError` unless a folder is missing or empty."""
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise ExpungeError(f"{path} exists and is not an empty folder; give a new folder.")


def create(path: Path, content: Path) -> None:
    """Make a finished folder the project folder by one rename.

    Args:
        path: The project folder. It is missing or empty.
        content: A folder beside it with all files.
    """
    for file in content.rglob("*"):
        if file.is_file():
            flush(file)
    try:
        if path.exists():
            path.rmdir()
        os.replace(content, path)
    except OSError as error:
        raise ExpungeError(f"{path} cannot be made: {error.strerror}; give another folder.") from error


def sha256(path: Path) -> str:
    """Return the SHA-256 (hex) of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_state(path: Path, state: dict[str, Any], ledger: Path) -> None:
    """Write a state with its seal. `ledger` is the ledger of the project, wherever it is at the moment."""
    write_private_json(path, sealed({**state, "format": FORMAT}, seal_key(ledger_name(ledger))))


def write_private_json(path: Path, value: Any) -> None:
    """Write JSON atomically, readable by its owner only: it may hold ids."""
    part = path.with_name(f"{WORK}{path.name}")
    shutil.rmtree(part, ignore_errors=True)
    private_folder(part)
    try:
        write_json(part / path.name, value)
        os.chmod(part / path.name, 0o600)
        os.replace(part / path.name, path)
    finally:
        shutil.rmtree(part, ignore_errors=True)
