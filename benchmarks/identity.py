"""What the kept pieces of a benchmark were made of: pieces of another device, source or argument are refused, not mixed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

import expunge
from expunge.records.atomic_files import write_json
from expunge.records.record import plain

ASIDE = ("bench", "cli", "receipts", "report")  # parts of the package that no figure comes from


def made_of(*files: Path, **arguments: Any) -> dict[str, Any]:
    """The device, torch, the source (the package's, and `files`) and the arguments, as JSON holds them."""
    root = Path(expunge.__file__).parent
    own = (f for f in sorted(root.rglob("*.py")) if f.relative_to(root).parts[0] not in ASIDE)
    digest = hashlib.sha256()
    for file in (*own, *files):
        digest.update(file.name.encode() + b"\0" + file.read_bytes())
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    about = {"device": device, "torch": torch.__version__, "source": digest.hexdigest()[:16], **arguments}
    return json.loads(json.dumps(plain(about)))  # as it is read back


def refuse_other(known: Mapping[str, Any], about: Mapping[str, Any], place: Path) -> None:
    """Raise `SystemExit` where the pieces in `place` were made of something else than `about`."""
    if other := [k for k in {**known, **about} if known.get(k) != about.get(k)]:
        told = "; ".join(f"{k} {known.get(k)!r}, now {about.get(k)!r}" for k in other)
        raise SystemExit(
            f"{place} holds pieces made with another {told}. Repeat what they were made with, or remove it to start anew."
        )


def only_of(folder: Path, about: Mapping[str, Any]) -> None:
    """Say in a folder what its pieces are made of. Raises `SystemExit` where it holds those of something else."""
    file = folder / "made_of.json"
    if file.exists():
        refuse_other(json.loads(file.read_text(encoding="utf-8")), about, folder)
    write_json(file, dict(about))
