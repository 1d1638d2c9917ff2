"""`expunge clean`: find and remove what killed commands left in folders."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from ..errors import ExpungeError, raise_all
from ..records.part_files import left_behind, remove
from ..records.together import finish_or_remove, journals

# endings of the hidden files from which an interrupted run resumes: see `outputs.py` and `erase_setup.py`
STATES = (".state", ".trials", ".latents")


def clean(folders: Sequence[Path] = (Path("."),), /, *, states: bool = False, dry_run: bool = False) -> None:
    """Find and remove what killed commands left in folders.

    These are hidden, unfinished copies of outputs, which may hold parameters. Folders below are searched too. Files that a command
    is writing now are left alone.

    Args:
        folders: The folders.
        states: Also remove the states of interrupted runs, which hold parameters too. These runs can then not resume.
        dry_run: Only list the files.
    """
    raise_all([f"{folder} is no folder; name a folder." for folder in folders if not folder.is_dir()])
    places = sorted({place.resolve(): place for folder in folders for place in _below(folder)}.values())
    failed = []
    for place in places:
        # it was part of what was removed
        if not place.is_dir():
            continue
        failed += _clean_projects(place, dry_run)
        for journal in journals(place):
            print(f"{'unfinished' if dry_run else 'finished'}: {journal} (outputs of a killed command)")
        found = left_behind(place)
        if not dry_run:
            finish_or_remove(place)
        for part in found:
            failed += _report("left behind", part, dry_run, gone=not part.exists())
        for state in _states(place):
            if states and not dry_run:
                remove(state)
            failed += _report("state of a run", state, dry_run or not states, gone=not state.exists())
    raise_all(
        [f"{path} cannot be removed; get the right to write to its folder." for path in failed], ExpungeError
    )
    if not dry_run and not states and any(_states(place) for place in places):
        print("runs resume from their states; --states removes them")


def _clean_projects(place: Path, dry_run: bool) -> list[Path]:
    """Remove what killed commands left of projects: one that was being made here, and changes of the one that this folder is."""
    # the modules of projects import torch
    if not any(place.glob(".*.init-*")) and not any(place.glob(".work-*")):
        return []
    from ..projects.creation import left_unmade
    from ..projects.folder import STATE, WORK, Folder

    failed = []
    for left in left_unmade(place):
        if not dry_run:
            remove(left)
        failed += _report("project that was not made", left, dry_run, gone=not left.exists())
    # a project that another command works in, or that is broken, is left alone
    with suppress(ExpungeError):
        works = sorted(place.glob(f"{WORK}*")) if (place / STATE).is_file() else []
        if works and not dry_run:
            with Folder(place).locked():
                pass
        for left in works:
            failed += _report("change of a project", left, dry_run, gone=not left.exists())
    return failed


def _below(folder: Path) -> list[Path]:
    """Return a folder and all folders below it, without the parts of folders and without following links."""
    return [folder, *(path for path in folder.rglob("*") if path.is_dir() and not path.is_symlink())]


def _states(folder: Path) -> list[Path]:
    """Return the files in a folder from which runs resume, by their names and their first bytes."""
    hidden = (f for f in folder.glob(".?*") if f.suffix in STATES and f.is_file() and not f.is_symlink())
    return sorted(f for f in hidden if _begins_as_state(f))


def _begins_as_state(file: Path) -> bool:
    """Whether a file is an archive of torch, a safetensors file or JSON, as states are."""
    try:
        with file.open("rb") as opened:
            start = opened.read(9)
    except OSError:
        return False
    return start[:2] == b"PK" or b"{" in (start[:1], start[8:9])


def _report(what: str, path: Path, kept: bool, gone: bool) -> list[Path]:
    """Print one line for a file, and return it if it should be gone and is not."""
    if gone:
        print(f"removed: {path} ({what})")
    elif kept:
        print(f"{what}: {path}")
    return [] if gone or kept else [path]
