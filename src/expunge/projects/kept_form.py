"""The form of the checkpoint that a project began with, in its folder `form`."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..errors import raise_all
from ..records.checkpoint import Checkpoint
from ..records.checkpoint_form import FORM, read_form, write_form
from .folder import MODELS, STATE, Folder, sha256
from .places import FORM_FOLDER, SETTINGS

_BACKUP = "restore it from a backup"


def kept_form(folder: Folder, state: dict[str, Any]) -> Checkpoint | None:
    """Return the form of the original, after a check that its files are those that `init` wrote.

    None in a project of an earlier version, which kept none.

    Args:
        folder: The folder of the project.
        state: Its state.

    Raises:
        ExpungeError: A file of the form is missing or was changed.
    """
    hashes = _files(state)
    if f"{FORM_FOLDER}/{FORM}" not in hashes:
        return None
    paths = {folder.path / name: digest for name, digest in hashes.items()}
    raise_all([f"{path} is missing; {_BACKUP}." for path in paths if not path.is_file()])
    raise_all([f"{path} was changed; {_BACKUP}." for path, digest in paths.items() if sha256(path) != digest])
    return read_form(folder.path / FORM_FOLDER)


def _files(state: dict[str, Any]) -> dict[str, str]:
    """{file of the form: its hash}."""
    return {name: h for name, h in state.get("files", {}).items() if Path(name).parts[0] == FORM_FOLDER}


def begin_form(place: Path, checkpoint: Path, read: Checkpoint, say: Callable[[str], None]) -> None:
    """Write the form of a checkpoint. A model of another project has the form of the checkpoint which that project began with.

    Args:
        place: The folder to make.
        checkpoint: The checkpoint that a user gave.
        read: Its content, after `load_into`.
        say: Called with a note if that project kept no form.

    Raises:
        ExpungeError: A file of the other project's form is missing or was changed.
    """
    real = checkpoint.resolve()
    root = real.parent.parent
    if real.parent.name == MODELS and all((root / name).is_file() for name in (SETTINGS, STATE)):
        earlier = Folder(root)
        state = earlier.state()
        form = kept_form(earlier, state)
        if form is None:
            say(
                f"the project that made {checkpoint} kept no form of its original; `expunge export` writes models in the form of this file."
            )
        elif {*form.state, *form.counters} == {*read.state, *read.counters}:
            place.mkdir()
            for name in _files(state):
                shutil.copyfile(root / name, place / Path(name).name)
            return
    write_form(place, read)
