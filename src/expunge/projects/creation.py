"""Make a project folder: all of it or nothing."""

from __future__ import annotations

import glob
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ..data.class_lists import class_notices
from ..data.past_requests import PastRequest
from ..errors import ExpungeError, raise_all, write_error
from ..receipts.ledger import Ledger
from ..records.checkpoint import Checkpoint
from ..records.checkpoint_folders import weight_files
from ..records.checkpoint_requests import answered_requests, key_of
from ..records.history_checks import check_history
from ..records.part_files import lock
from ..records.request_file import requests_path, write_requests
from ..sources.source import Source
from .arguments import check_project, path_of
from .folder import LEDGER, MODELS, STATE, check_new, create, sha256, write_state
from .held_out import any_split
from .kept_form import begin_form
from .ledger_limits import public_key, read_states, write_limits
from .own_modules import module_folders
from .places import FORM_FOLDER, MAKING, SETTINGS
from .predecessor import Predecessor, begin, predecessor_of, with_known_audits
from .setting_paths import fixed_paths
from .settings import ProjectSettings, load_original

# name of the hidden folder in which a project is made
UNMADE = re.compile(r"\..+\.init-[a-z0-9_]{8}", re.S)


def make_folder(
    path: Path | str,
    settings: ProjectSettings,
    checkpoint: Path | str,
    history: Path | str | None,
    say: Callable[[str], None],
) -> None:
    """Make a project folder. The arguments and errors are those of `Project.create`."""
    settings = _with_fixed_paths(settings)
    check_project(0.0, say)
    history = None if history is None else path_of("the history", history)
    path, checkpoint = path_of("the folder", path), path_of("the checkpoint", checkpoint)
    check_new(path)
    file = _model_file(checkpoint)
    remove_leftovers(path)
    before = _predecessor(checkpoint, say)
    read, source, problems = load_original(settings, checkpoint, before.drawn["classes"] if before else ())
    try:
        public_key(settings)
    except ExpungeError as error:
        problems += [f"sign_key: {text}" for text in error.problems]
    raise_all(problems)
    assert read is not None and source is not None
    answered = with_known_audits(_answered(settings, read, source, history, say), before)
    with _work_folder(path) as work:
        (work / MODELS).mkdir()
        name = f"{MODELS}/0000{file.suffix}"
        shutil.copyfile(file, work / name)
        begin_form(work / FORM_FOLDER, checkpoint, read, say)
        key = key_of(read, history)
        kept = write_requests(requests_path(work / name), answered, key) if answered else None
        drawn = begin(work, settings, source, read, answered, before, say, key)
        (work / SETTINGS).write_text(_with_modules(settings).to_toml(), encoding="utf-8")
        model = {"file": name, "sha256": sha256(work / name), "receipt": ""}
        write_limits(ledger := Ledger(work / LEDGER, create=True), settings, lambda _: None)
        state = {
            "ledger": str(ledger.head()),
            "models": [{**model, "requests": sha256(kept) if kept else ""}],
            "requests": [],
            "moves": [],
            "files": {f"{FORM_FOLDER}/{f.name}": sha256(f) for f in sorted((work / FORM_FOLDER).iterdir())},
            **({"drawn": drawn} if drawn is not None else {}),
        }
        write_state(work / STATE, state, ledger.path)
        create(path, work)
        # an empty file that stays harms nothing
        with suppress(OSError):
            (path / MAKING).unlink()


def _answered(
    settings: ProjectSettings,
    read: Checkpoint,
    source: Source,
    history: Path | None,
    say: Callable[[str], None],
) -> list[PastRequest]:
    """Return the requests that a model has answered, and say what is open: which are answered, and what its class names mean.

    A history of another model is refused.
    """
    for text in class_notices(read.path.name, read.classes, source.classes):
        say(text)
    answered = answered_requests(read, history)
    split = any_split(source, settings.validation, settings.split_seed, settings.validation_from)
    if note := check_history(read, split, answered, history):
        say(note)
    return answered


def _model_file(checkpoint: Path) -> Path:
    """Return the file of a checkpoint: its own, or the only one with parameters in a folder that `save_pretrained` wrote."""
    if not checkpoint.is_dir():
        return checkpoint
    files = weight_files(checkpoint)
    if len(files) > 1:
        raise ExpungeError(
            f"{checkpoint} holds its parameters in {len(files):,} files ({files[0].name} ...), and a project has one model file; write one "
            "with `model.save_pretrained(FOLDER, max_shard_size='1TB')` and give that folder."
        )
    return files[0]


def _with_fixed_paths(settings: Any) -> ProjectSettings:
    if not isinstance(settings, ProjectSettings):
        raise ExpungeError(
            f"the settings are {settings!r}; give what `checked` returns (expunge.projects.settings)."
        )
    return settings.model_copy(update=fixed_paths(settings.model_dump()))


def _with_modules(settings: ProjectSettings) -> ProjectSettings:
    """Return settings with the folders of the own modules that were imported, unless they name some."""
    if settings.modules:
        return settings
    return settings.model_copy(update={"modules": module_folders(settings.model_dump())})


def _predecessor(checkpoint: Path, say: Callable[[str], None]) -> Predecessor | None:
    """Return what `predecessor_of` returns, and say which requests of that project are open: the new one does not know that."""
    before = predecessor_of(checkpoint)
    if before is None:
        return None
    requests = list(before.requests)
    if before.ledger.is_file():
        # a ledger that cannot be read says nothing
        with suppress(ExpungeError):
            requests += read_states(Ledger(before.ledger), requests, before.receipts)
    waiting = [str(r.number) for r in requests if r.is_open and r.state == "waiting"]
    again = [str(r.number) for r in requests if r.is_open and (r.state == "came back" or r.is_reopened)]
    remedy = "answer them there first, or enter them here too."
    if waiting:
        say(
            f"the project that made the model has requests that wait ({', '.join(waiting)}), which this project does not know: runs train "
            f"on their samples; {remedy}"
        )
    if again:
        say(
            f"the project that made the model has requests that came back or were reopened ({', '.join(again)}), and this project does not "
            f"know that: the model may still recognise their samples; {remedy}"
        )
    return before


@contextmanager
def _work_folder(path: Path) -> Iterator[Path]:
    """Yield a hidden folder beside a project that is being made. Its lock shows others that this process lives."""
    try:
        parent = path.resolve().parent
        parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=_hidden(path), dir=parent))
    except OSError as error:
        raise ExpungeError(f"{path} cannot be made: {error.strerror}; give another folder.") from error
    # on Windows, a folder with an open file cannot be renamed
    handle = None
    try:
        if os.name != "nt":
            handle = os.open(work / MAKING, os.O_RDWR | os.O_CREAT, 0o600)
            lock(handle)
        yield work
    except OSError as error:
        raise write_error(path, error) from error
    finally:
        if handle is not None:
            os.close(handle)
        shutil.rmtree(work, ignore_errors=True)


def remove_leftovers(path: Path) -> None:
    """Remove the hidden folders that killed commands left beside a project when they made it."""
    for left in path.resolve().parent.glob(f"{glob.escape(_hidden(path))}*"):
        if _is_left(left):
            shutil.rmtree(left, ignore_errors=True)


def left_unmade(folder: Path) -> list[Path]:
    """Return the hidden folders in a folder that killed commands left when they made a project. They hold a model."""
    return sorted(left for left in folder.glob(".*.init-*") if UNMADE.fullmatch(left.name) and _is_left(left))


def _is_left(left: Path) -> bool:
    """Return whether no process holds the lock of a hidden folder."""
    try:
        handle = os.open(left / MAKING, os.O_RDWR | getattr(os, "O_NOFOLLOW", 0))
    except OSError:
        return False
    try:
        return lock(handle) is True
    finally:
        os.close(handle)


def _hidden(path: Path) -> str:
    """Return how the name of the hidden folder of a new project begins."""
    return f".{path.resolve().name}.init-"
