"""The state of a project folder: one small file names all others, so that a killed command leaves the old state or the new one."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock, Timeout

from ..errors import ExpungeError
from ..records.atomic_files import atomic
from ..records.record import plain

FILE = "state.json"
FORMAT = "expunge-project/v1"
LOCK = ".lock"
PARTS = ".new-"


@dataclass(frozen=True)
class ProjectRequest:
    """Hold one deletion request of a project.

    Args:
        number: Number of the request, from 1.
        subject: A reference to the person.
        kind: "ids", "class" or "group".
        values: The ids, the classes, or the values of the group.
        column: Column of the group, else empty.
        due: Day by which it must be answered, or empty.
        ledger: Number of its entry in the ledger.
        status: "waiting" or "answered".
        model: File of the model that answered it, without ending: "0001".
        request: Hash that identifies it in the model's history (`PastRequest.request`).
        attached: Whether the ledger has the results.
        scores: UA and MIA of its own audit.
        now: UA, MIA and "came_back" of the latest audit.
    """

    number: int
    subject: str
    kind: Literal["ids", "class", "group"]
    values: tuple[str, ...]
    column: str = ""
    due: str = ""
    ledger: int = 0
    status: Literal["waiting", "answered"] = "waiting"
    model: str = ""
    request: str = ""
    attached: bool = False
    scores: dict[str, float] = field(default_factory=dict)
    now: dict[str, Any] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """The request in a few words."""
        if self.kind == "ids":
            return f"{len(self.values):,} ids"
        name = self.column if self.kind == "group" else "class"
        return f"{name} {', '.join(self.values)}"


@dataclass(frozen=True)
class State:
    """Hold what `state.json` says.

    Args:
        models: Names of the checkpoints in `models/`, the original first.
        requests: All requests, in order.
    """

    models: tuple[str, ...]
    requests: tuple[ProjectRequest, ...] = ()

    def with_requests(self, changed: list[ProjectRequest], model: str = "") -> State:
        """Return the state with changed or new requests, and with one more model."""
        by_number = {r.number: r for r in self.requests} | {r.number: r for r in changed}
        models = (*self.models, model) if model else self.models
        return replace(self, models=models, requests=tuple(by_number[k] for k in sorted(by_number)))


def read_state(folder: Path) -> State:
    """Read the state of a project folder.

    Raises:
        ExpungeError: The file is missing or broken.
    """
    path = folder / FILE
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if values["format"] != FORMAT:
            raise ValueError(f"its format is not {FORMAT}")
        known = {f.name for f in fields(ProjectRequest)}
        read: Any = ProjectRequest
        requests = tuple(
            read(**{k: tuple(v) if k == "values" else v for k, v in r.items() if k in known})
            for r in values["requests"]
        )
        return State(tuple(map(str, values["models"])), requests)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ExpungeError(
            f"{path} cannot be read as the state of a project: {error}; restore it."
        ) from error


def write_state(folder: Path, state: State) -> None:
    """Write the state, at once and readable by its owner only: it holds ids."""
    content = {"format": FORMAT, **plain(asdict(state))}
    with atomic(folder / FILE) as part:
        part.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    os.chmod(folder / FILE, 0o600)


@contextmanager
def locked(folder: Path, wait: float = 0.0) -> Iterator[None]:
    """Hold the lock of a project folder. The system frees it if the process is killed.

    Args:
        folder: The project folder.
        wait: Seconds to wait for another command.

    Raises:
        ExpungeError: Another command works in the folder.
    """
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=wait)
    except Timeout as error:
        raise ExpungeError(
            f"another command works in {folder}; wait for its end, or give --wait SECONDS."
        ) from error
    except OSError as error:
        raise ExpungeError(f"{folder} cannot be locked: {error.strerror}; make it writable.") from error
    try:
        yield
    finally:
        lock.release()


@contextmanager
def new_files(folder: Path) -> Iterator[Path]:
    """Yield an empty hidden folder for the files of one run. It is removed at the end, also after an error."""
    path = folder / f"{PARTS}{os.getpid()}"
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True, mode=0o700)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def move_in(parts: Path, folder: Path) -> None:
    """Move the finished files of a run into a folder. Nothing refers to them before the state does."""
    folder.mkdir(exist_ok=True)
    for file in sorted(parts.iterdir()):
        os.replace(file, folder / file.name)


def clean(folder: Path, state: State) -> None:
    """Remove what a killed command left: hidden folders, and files of models that the state does not name."""
    for part in folder.glob(f"{PARTS}*"):
        shutil.rmtree(part, ignore_errors=True)
    known = {Path(name).stem for name in state.models}
    for file in (folder / "models").glob("[0-9][0-9][0-9][0-9].*"):
        if file.name.partition(".")[0] not in known:
            file.unlink()
    for file in (*folder.glob(".*.part"), *(folder / "models").glob(".*.part")):
        file.unlink()
