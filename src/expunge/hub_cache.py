"""Folders in the cache of the Hugging Face hub: `models--OWNER--NAME/snapshots/COMMIT`, whose files are links to `blobs`."""

from __future__ import annotations

import os
import re
from pathlib import Path

# OWNER/NAME or NAME, as the hub allows it
NAME = re.compile(r"[\w.-]+(/[\w.-]+)?", re.ASCII)
KINDS = ("models", "datasets")


def cache_folder() -> Path:
    """Return the folder of the cache, by the variables that huggingface_hub reads."""
    own = os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE")
    home = os.environ.get("HF_HOME") or os.path.join(
        os.environ.get("XDG_CACHE_HOME") or "~/.cache", "huggingface"
    )
    return Path(own or os.path.join(home, "hub")).expanduser()


def snapshot_of(place: Path | str, kind: str) -> Path | None:
    """Return the snapshot of a name, or of the folder of a repository in the cache. None if there is none.

    The snapshot is that of the branch `main`, or the only one.

    Args:
        place: `OWNER/NAME`, or a folder such as `models--OWNER--NAME`.
        kind: "models" or "datasets".
    """
    folder = Path(place).expanduser()
    if not folder.is_dir():
        if not NAME.fullmatch(str(place)):
            return None
        folder = cache_folder() / "--".join((kind, *str(place).split("/")))
    elif not folder.name.startswith(f"{kind}--"):
        return None
    try:
        commit = (folder / "refs" / "main").read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        commit = ""
    snapshots = folder / "snapshots"
    if commit and (snapshots / commit).is_dir():
        return snapshots / commit
    every = sorted(snapshots.iterdir()) if snapshots.is_dir() else []
    return every[0] if len(every) == 1 else None


def repository_name(folder: Path) -> str:
    """Return the name of the repository of a snapshot: "bert" for `models--owner--bert/snapshots/COMMIT`. Else that of the folder."""
    if folder.parent.name == "snapshots" and folder.parent.parent.name.partition("--")[0] in KINDS:
        return folder.parent.parent.name.split("--")[-1]
    return folder.name


def cache_advice(place: Path | str, kind: str = "models") -> str:
    """Return which folder of the cache to give instead, as the end of a sentence. Empty if the cache has none.

    Args:
        place: What a user gave.
        kind: "models" or "datasets".
    """
    snapshot = snapshot_of(place, kind)
    return "" if snapshot is None else f" The cache of the hub has it: give {snapshot}."
