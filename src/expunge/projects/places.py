"""Where the files of a project lie. Renames bring new ones to their places, and a rename neither follows links nor leaves a disk."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

SETTINGS = "expunge.toml"
# folder with the form of the checkpoint that a project began with
FORM_FOLDER = "form"
# file whose lock a process holds while it makes a project
MAKING = ".making"


def place_problems(path: Path, replaced: Sequence[str], models: str) -> list[str]:
    """Return which files of a project cannot be replaced where they lie, one sentence each.

    Args:
        path: The folder of the project.
        replaced: Names of files that may be no links: a change would replace the link, and leave the file that it names as it was.
        models: Name of the folder of the models. It may be a link to a folder on the same file system.
    """
    problems = [
        f"{path / name} is a link to {(path / name).resolve()}; a change would replace the link, and leave that file as it was. Remove the "
        "link, copy the file into its place, and use only this copy from then on."
        for name in replaced
        if (path / name).is_symlink()
    ]
    folder = path / models
    if folder.is_dir() and folder.stat().st_dev != path.stat().st_dev:
        problems.append(
            f"{folder} is on another file system ({folder.resolve()}) than {path}, so no file can be moved there by one rename; move "
            f"the whole project to that file system, with its folder {models} inside it, or bring the models back into {path}."
        )
    return problems
