"""The names of the files of a run, which all follow from that of its checkpoint."""

from __future__ import annotations

from pathlib import Path

from ..records.file_names import beside


def state_file(out: Path) -> Path:
    """Return the file where a run that writes `out` keeps its resumable state."""
    return out.with_name(f".{out.name}.state")


def trials_file(out: Path) -> Path:
    """Return the file where a run that writes `out` keeps its finished trials."""
    return state_file(out).with_suffix(".trials")


def failed_file(out: Path) -> Path:
    """Return the file of the model of a run without a result."""
    return out.with_name(f"{out.name}.failed")


def with_record(out: Path) -> dict[str, Path]:
    """Return {flag: file} of the files that `--out` stands for: the checkpoint and the record beside it."""
    return {"--out": out, **({"its record": beside(out, ".json")} if out.name else {})}


def written(out: Path) -> dict[str, Path]:
    """Return {what: path} of the checkpoint and its record, for trackers."""
    return {"checkpoint": out, "record": beside(out, ".json")}
