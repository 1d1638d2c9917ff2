"""Write the result of a grid as one compact JSON file that can be committed."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

from ..records.atomic_files import write_json
from ..records.record import Record, machine, plain

Entry = dict[str, Any]


def entry(record: Record, label: str, split: dict[str, Any], vary: dict[str, Any] | None = None) -> Entry:
    """Return the part of a record that is committed: scores, settings and seconds, without pictures and curves.

    Args:
        record: The record of a run.
        label: Name of the run in tables.
        split: The split as the grid file gives it.
        vary: The settings that the grid varies, with this run's values.

    Returns:
        The entry.
    """
    wanted = ("table2x2", "worst_class", "features", "measures")
    kept = {k: record.details[k] for k in wanted if record.details.get(k)}
    return {
        "label": label,
        "kind": record.kind,
        "method": record.method,
        "data": record.data.get("name"),
        "model": record.model.get("name"),
        "split": split,
        "scenario": record.split.get("scenario"),
        "seed": record.seed,
        "scores": record.scores,
        "seconds": record.seconds,
        "peak_memory": record.peak_memory,
        "status": record.status,
        "ended": record.ended,
        "settings": record.settings,
        "details": kept,
        "vary": vary or {},
        "density": (record.details.get("mask") or {}).get("density"),
    }


def write_result(
    path: Path,
    title: str,
    command: str,
    entries: Sequence[Entry],
    *,
    note: str = "",
    tuned: Any = None,
    failed: dict[str, str] | None = None,
    revised: str | None = None,
    published: Sequence[dict[str, Any]] = (),
) -> None:
    """Write the result of a grid, with machine, versions, revision, date and command.

    Args:
        path: The JSON file to write.
        title: Title of the grid.
        command: The command that makes the result again.
        entries: One entry for each run.
        note: Remark on the machine.
        tuned: The trials behind tuned settings.
        failed: {run: error} of the runs that failed.
        revised: Revision of the source, as `revision` gives it.
        published: Published tables from the grid file.
    """
    about = {
        "title": title,
        "command": command,
        "date": date.today().isoformat(),
        "revision": revised,
        "machine": machine(),
        "note": note,
        "tuned": tuned,
        "failed": failed or {},
        **({"published": list(published)} if published else {}),
    }
    write_json(path, plain({"about": about, "runs": list(entries)}))


def revision() -> str | None:
    """Return the commit of this package's source, with a `+` if files changed since.

    Returns:
        The short commit hash. None outside a git checkout.
    """
    source = Path(__file__).resolve().parents[1]

    def git(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(["git", *words], cwd=source, capture_output=True, text=True, timeout=30)

    try:
        commit, changed = git("rev-parse", "--short=10", "HEAD"), git("status", "--porcelain", "--", ".")
    except (OSError, subprocess.TimeoutExpired):
        return None
    return commit.stdout.strip() + ("+" if changed.stdout else "") if commit.returncode == 0 else None
