"""`Record`: one run as one JSON file. Reports and benchmarks read nothing else."""

from __future__ import annotations

import json
import math
import os
import platform
from dataclasses import dataclass, field, fields, is_dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal, get_args

from ..errors import ExpungeError, raise_all
from ..summaries import entry, score_lines, short, summary
from .atomic_files import write_json

SCHEMA = 1
Ended = Literal["finished", "stopped", "diverged", "unchanged", "worse"]


@dataclass
class Record:
    """One run: what ran, on which data, and with which result.

    Scores are in percent, times in seconds, memory in bytes. A value that does not exist is None, never NaN.

    Args:
        kind: "original", "retrain", "unlearn" or "erase".
        method: Name of the method, as on the command line: "salun".
        settings: The fields of the method.
        goal: "untrain" to remove the influence of samples, "unlearn" to remove the ability.
        task: Name of the task.
        model: Name, number of parameters, and the hashes `hash_before` and `hash_after`.
        data: Name and class names.
        split: How the split was drawn, its hashes and sizes.
        seed: Seed of the run.
        status: "finished", or a sentence on why the run ended early.
        ended: How the run ended, in one word. Records written before this field existed get it from `status`.
        scores: UA, RA, TA, MIA and others, and "gap" with the gaps to a retrained model if there was one.
        curves: One row per evaluation during the run: step, epoch, loss, retain, forget.
        details: What the report draws: histograms, scores per class, features, images.
        seconds: RTE: the seconds of the run that made the model, with its mask, without evaluation and without other trials.
        peak_memory: Peak memory of the process (CPU) or of the allocator (CUDA).
        machine: Processor, GPU and versions.
        created: Time of creation, UTC.
        command: The command line.
        schema: Version of the file format.

    Example:
        >>> record = Record.load("runs/salun.json")
        >>> record.scores["UA"]
        100.0
    """

    kind: str
    method: str
    settings: dict[str, Any] = field(default_factory=dict)
    goal: str = "unlearn"
    task: str = "classification"
    model: dict[str, Any] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)
    split: dict[str, Any] = field(default_factory=dict)
    seed: int = 0
    status: str = "finished"
    ended: Ended | None = None
    scores: dict[str, Any] = field(default_factory=dict)
    curves: list[dict[str, Any]] = field(default_factory=list)
    details: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    peak_memory: int | None = None
    machine: dict[str, Any] = field(default_factory=lambda: machine())
    created: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    command: str = ""
    schema: int = SCHEMA

    def __post_init__(self) -> None:
        if self.ended not in get_args(Ended):
            self.ended = ended_from_status(self.status)

    def __repr__(self) -> str:
        seconds = f"{self.seconds:.2f} s, " if isinstance(self.seconds, int | float) else ""
        return summary(
            f"Record({short(self.kind)} {short(self.method)}, seed {short(self.seed)}, {short(self.status)})",
            f"model {entry(self.model, 'name')}, data {entry(self.data, 'name')}, {seconds}{short(self.created)}",
            *score_lines(self.scores),
        )

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the record as JSON, atomically. NaN and infinity become null.

        Returns:
            The path.

        Raises:
            ExpungeError: Nothing can be written there.
        """
        write_json(path, plain(self))
        return Path(path)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Record:
        """Read a record from its file.

        Raises:
            ExpungeError: The file is no record, has entries of wrong types, or has a newer schema.
        """
        try:
            values = json.loads(Path(path).read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise ExpungeError(
                f"{path} cannot be read as a record: {error}; give a JSON file that expunge wrote."
            ) from error
        if not _is_record(values):
            raise ExpungeError(
                f"{path} is JSON, but not a record of expunge; give the .json file that a run wrote beside its checkpoint."
            )
        if values["schema"] > SCHEMA:
            raise ExpungeError(
                f"{path} has schema {values['schema']}, but this version reads up to {SCHEMA}; upgrade expunge."
            )
        raise_all([f"{path}: {text}" for text in _type_problems(values)])
        known = {f.name for f in fields(cls)}
        return cls(**{k: v for k, v in values.items() if k in known})


def _type_problems(values: dict[str, Any]) -> list[str]:
    """Return which entries of a record have a wrong type, one sentence each. Missing entries get their defaults."""
    kinds = {"settings": dict, "model": dict, "data": dict, "split": dict, "scores": dict, "details": dict, "machine": dict,
             "curves": list, "goal": str, "task": str, "status": str, "created": str, "command": str}  # fmt: skip
    names = {dict: "a table", list: "a list", str: "a text"}
    problems = [
        f"the entry {name} is {short(repr(values[name]), 40)}, not {names[kind]}; give the file as a run wrote it."
        for name, kind in kinds.items()
        if name in values and not isinstance(values[name], kind)
    ]
    if "curves" in values and not problems and not all(isinstance(row, dict) for row in values["curves"]):
        problems.append("the entry curves has a row that is no table; give the file as a run wrote it.")
    return problems


def is_record(path: Path) -> bool:
    """Return whether a JSON file is a record. Receipts, proofs and lists of requests may lie beside records.

    An unreadable file counts as a record: `Record.load` then says what is wrong with it.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return True
    return _is_record(values)


def _is_record(values: Any) -> bool:
    return (
        isinstance(values, dict)
        and all(isinstance(values.get(k), str) for k in ("kind", "method"))
        and type(values.get("schema")) is int
    )


def ended_from_status(status: Any) -> Ended:
    """Return how a run ended, from the first word of its status."""
    word = str(status).partition(" ")[0].rstrip(":")
    ends: tuple[Ended, ...] = get_args(Ended)
    return next((end for end in ends if end == word), "diverged")


def plain(value: Any) -> Any:
    """Convert `value` to what JSON can hold.

    Tuples and sets become lists, dataclasses dicts, paths text, arrays and tensors numbers and lists, and NaN None.
    """
    kind = type(value)
    if kind is str or kind is int or kind is bool or value is None:
        return value
    if kind is float:
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple | set):
        return [plain(v) for v in value]
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in fields(value)}
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, str | int | float | bool):
        return value
    return str(value)


def settings_of(settings: Any) -> dict[str, Any]:
    """Return the fields of a method or recipe as JSON can hold them.

    `paper` is left out where it is false, as in files of earlier versions, so that their hashes and cache keys stay.
    """
    return {k: v for k, v in plain(settings).items() if k != "paper" or v}


def used_trial(record: Record) -> int | None:
    """Return the position in `details["trials"]` of the settings that made the model; None if no trial has them.

    It is not always the first, closest one: a project takes the first trial that does no harm where none improves.
    """
    trials = record.details.get("trials")
    if record.ended == "unchanged" or not isinstance(trials, list):
        return None
    settings = [trial.get("settings") if isinstance(trial, dict) else None for trial in trials]
    return next(
        (
            k
            for k, s in enumerate(settings)
            if isinstance(s, dict) and plain(s).items() <= record.settings.items()
        ),
        None,
    )


def machine() -> dict[str, Any]:
    """Return what the numbers of a run depend on: system, processor, GPU and versions. No host name, no path."""
    import torch

    facts: dict[str, Any] = {
        "system": platform.system(),
        "arch": platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
    }
    if torch.cuda.is_available():
        facts["gpu"] = torch.cuda.get_device_name()
    for package in ("expunge", "torch", "numpy", "scikit-learn", "diffusers"):
        try:
            facts[package] = version(package)
        except PackageNotFoundError:
            continue
    return facts
