"""Make a project folder: all of it or nothing."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from ..errors import ExpungeError, raise_all
from ..records.request_file import answered_requests, requests_path, write_requests
from .folder import MODELS, SETTINGS, STATE, check_new, create, sha256, write_private_json
from .settings import ProjectSettings, load_original
from .state import FORMAT


def make_folder(path: Path, settings: ProjectSettings, checkpoint: Path, history: Path | None) -> None:
    """Make a project folder. The arguments and errors are those of `Project.create`."""
    check_new(path)
    read, problems = load_original(settings, checkpoint)
    raise_all(problems)
    assert read is not None
    answered = answered_requests(read, history)
    try:
        path.resolve().parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.resolve().parent))
    except OSError as error:
        raise ExpungeError(f"{path} cannot be made: {error.strerror}; give another folder.") from error
    try:
        (work / MODELS).mkdir()
        name = f"{MODELS}/0000{checkpoint.suffix}"
        shutil.copyfile(checkpoint, work / name)
        kept = write_requests(requests_path(work / name), answered) if answered else None
        (work / SETTINGS).write_text(settings.to_toml(), encoding="utf-8")
        model = {"file": name, "sha256": sha256(work / name), "receipt": ""}
        state = {
            "format": FORMAT,
            "models": [{**model, "requests": sha256(kept) if kept else ""}],
            "requests": [],
            "moves": [],
        }
        write_private_json(work / STATE, state)
        create(path, work)
    finally:
        shutil.rmtree(work, ignore_errors=True)
