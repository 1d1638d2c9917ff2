"""One run as one JSON file: what was run, on what, with which outcome. Reports and benchmarks read nothing else."""

from __future__ import annotations

import json
import math
import os
import platform
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal, get_args

from ..errors import ExpungeError
from .atomic_files import write_json

SCHEMA = 1
Ended = Literal["finished", "stopped", "diverged"]


@dataclass
class Record:
    """One run. Scores are in percent, times in seconds, memory in bytes; absent values are None, never NaN."""

    kind: str  # "original" | "retrain" | "unlearn" | "erase"
    method: str  # the method's name, as the command line has it: "salun"
    settings: dict[str, Any] = field(default_factory=dict)  # the method's fields
    goal: str = "unlearn"  # "untrain": remove the samples' influence; "unlearn": remove the ability
    task: str = "classification"
    model: dict[str, Any] = field(default_factory=dict)  # name, parameters, hash_before, hash_after
    data: dict[str, Any] = field(default_factory=dict)  # name, classes (names)
    split: dict[str, Any] = field(default_factory=dict)  # how it was drawn, hash, sizes
    seed: int = 0
    status: str = "finished"  # or why it stopped early, in words
    ended: Ended | None = None  # the same as one word; made of `status` where a record was written without it
    scores: dict[str, Any] = field(
        default_factory=dict
    )  # UA RA TA MIA ..., "gap": {...} where a retrained model was given
    curves: list[dict[str, Any]] = field(
        default_factory=list
    )  # one row a probe: step, epoch, loss, retain, forget
    details: dict[str, Any] = field(
        default_factory=dict
    )  # what the report draws: histograms, per-class, features, images
    seconds: float = 0.0  # RTE: `unlearn` alone, mask included
    peak_memory: int | None = None  # bytes, of the process (CPU) or allocator (CUDA)
    machine: dict[str, Any] = field(default_factory=lambda: machine())
    created: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    command: str = ""
    schema: int = SCHEMA

    def __post_init__(self) -> None:
        if self.ended not in get_args(Ended):
            self.ended = ended_as_told(self.status)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the record as JSON, atomically; NaN and infinity become null."""
        write_json(path, plain(asdict(self)))
        return Path(path)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Record:
        """Read a record. Raises `ExpungeError` for files that are not one, or of a newer schema."""
        try:
            values = json.loads(Path(path).read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
            raise ExpungeError(f"{path} cannot be read as a record: {error}.") from error
        if not _has_form(values):
            raise ExpungeError(f"{path} is JSON but not a record of expunge.")
        if values["schema"] > SCHEMA:
            raise ExpungeError(
                f"{path} has schema {values['schema']}, this version reads up to {SCHEMA}: upgrade expunge."
            )
        known = {f.name for f in fields(cls)}
        return cls(**{k: v for k, v in values.items() if k in known})


def is_record(path: Path) -> bool:
    """Whether a JSON file has the form of a record; receipts, proofs and lists of requests lie beside them."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError):
        return True  # whoever reads it will say what is wrong
    return _has_form(values)


def _has_form(values: Any) -> bool:
    return (
        isinstance(values, dict)
        and all(isinstance(values.get(k), str) for k in ("kind", "method"))
        and type(values.get("schema")) is int
    )


def ended_as_told(status: Any) -> Ended:
    """How a run ended, from the words of a record that was written before records had `ended`."""
    told = str(status).partition(" ")[0].rstrip(":")
    return "finished" if told == "finished" else "stopped" if told == "stopped" else "diverged"


def plain(value: Any) -> Any:
    """`value` as JSON can hold it: tuples as lists, paths as text, NumPy and 0-d tensors as numbers, NaN as None."""
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple | set):
        return [plain(v) for v in value]
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, str | int | float | bool) or value is None:
        return value
    return str(value)


def machine() -> dict[str, Any]:
    """What this run's figures depend on: processor, cores, GPU, versions. No host name, no path."""
    import torch

    found: dict[str, Any] = {
        "system": platform.system(),
        "arch": platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
    }
    if torch.cuda.is_available():
        found["gpu"] = torch.cuda.get_device_name()
    for package in ("expunge", "torch", "numpy", "scikit-learn", "diffusers"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
