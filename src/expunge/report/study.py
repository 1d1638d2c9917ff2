"""Records sorted for the report: runs of one study side by side, seeds of one method together."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from ..records.record import Record
from ..records.statistics import grouped
from .group import Group
from .values import number, table

TEXTS = ("kind", "method", "goal", "task", "status", "created", "command")
TABLES = ("settings", "model", "data", "split", "scores", "details", "machine")
# Entries of a split that differ between the seeds of one study.
_PER_SEED = {"seed", "hash", "train_hash", "sizes", "goal", "request", "removed", "held_out"}


def is_generator(record: Record) -> bool:
    """Return True if the scores of the record are those of generated images, as a judge saw them."""
    return record.task == "diffusion" or record.kind == "erase" or "FID_judge" in record.scores


def has_accuracies(record: Record) -> bool:
    """Return True if the curves of the record are accuracies in percent.

    The standard audit gives TA to each model whose task offers "scores", and the curves of such a task are accuracies.
    The scores of generated images are a judge's, and their curves are losses.
    """
    return number(record.scores.get("TA")) is not None and not is_generator(record)


@dataclass
class Study:
    """Hold all runs with the same task, data, model and kind of split. They share one table.

    Args:
        records: The records.
        original: The group of the original models.
        retrain: The group of the retrained models.
        methods: The groups of the methods, smallest gap first: the worse of average gap and feature gap. Those without a
            gap come last.
    """

    records: list[Record]
    original: Group | None = None
    retrain: Group | None = None
    methods: list[Group] = field(default_factory=list)

    @property
    def lead(self) -> Record:
        """The record that describes the study: its task, data, model and split."""
        return self.methods[0].shown if self.methods else self.records[0]

    @property
    def generator(self) -> bool:
        """True if the models of the study generate images."""
        return is_generator(self.lead)

    @property
    def accuracies(self) -> bool:
        """True if the curves of the study are accuracies in percent."""
        return has_accuracies(self.lead)

    @property
    def before(self) -> str:
        """What the report calls the model before the run: "original", or "model before this run" after earlier requests."""
        answered = bool(self.lead.split.get("earlier"))
        if self.original is not None:
            answered = bool(self.original.runs[0].details.get("answered"))
        return "model before this run" if answered else "original"

    @property
    def groups(self) -> list[Group]:
        """The rows of the table: original, Retrain, methods."""
        return [g for g in (self.original, self.retrain, *self.methods) if g is not None]

    @property
    def ranked(self) -> list[Group]:
        """The methods that have an average gap, smallest first."""
        return [g for g in self.methods if g.average is not None]

    @property
    def erasure(self) -> bool:
        """True if every run erased a concept from a pipeline."""
        return bool(self.methods) and all(r.kind == "erase" for g in self.methods for r in g.runs)

    @property
    def contenders(self) -> list[Group]:
        """The ranked methods that the headline is about: without controls, unless all are controls."""
        return [g for g in self.ranked if not g.control] or self.ranked

    @cached_property
    def classes(self) -> list[str]:
        """The class names. Empty if no record has them."""
        return [str(name) for name in _first_list(r.data.get("classes") for r in self.records)]

    @cached_property
    def forgotten(self) -> list[int]:
        """The forgotten classes of a class-wise split, else an empty list."""
        classes = _first_list(r.split.get("forget_classes") for r in self.records)
        return [c for c in classes if isinstance(c, int)]

    def class_name(self, index: Any) -> str:
        """Return the name of a class, or "class 3" if it has none."""
        if isinstance(index, int) and 0 <= index < len(self.classes):
            return self.classes[index]
        return "–" if index is None else f"class {index}"


def _first_list(values: Iterable[Any]) -> list[Any]:
    """Return the first value that is a list with items."""
    return next((list(v) for v in values if isinstance(v, list | tuple) and v), [])


def studies(records: Sequence[Record]) -> list[Study]:
    """Sort records into studies, in order of appearance.

    A record without a split joins the first study of its task.
    """
    rows: dict[str, list[Record]] = {}
    first: dict[str, str] = {}
    for record in sorted(map(_typed, records), key=lambda r: not r.split):
        key = _study_key(record) if record.split else first.get(record.task) or _study_key(record)
        first.setdefault(record.task, key)
        rows.setdefault(key, []).append(record)
    return [_study(records_of_study) for records_of_study in rows.values()]


def _typed(record: Record) -> Record:
    """Return a copy with text in every text field and a table in every table field, whatever the file held."""
    changed: dict[str, Any] = {k: str(getattr(record, k)) for k in TEXTS} | {
        k: table(getattr(record, k)) for k in TABLES
    }
    curves = [r for r in record.curves if isinstance(r, dict)] if isinstance(record.curves, list) else []
    return replace(record, curves=curves, **changed)


def _study_key(record: Record) -> str:
    split = {k: v for k, v in record.split.items() if k not in _PER_SEED}
    # requests of one sequence are no seeds of one request, and those of two groups differ in `forget_hash`
    if isinstance(earlier := split.get("earlier"), list):
        split["earlier"] = len(earlier)
    parts = [record.task, record.data.get("name"), record.model.get("name"), split]
    return json.dumps(parts, sort_keys=True, default=str)


def _study(records: list[Record]) -> Study:
    def group_key(r: Record) -> str:
        settings = [] if r.kind in ("original", "retrain") else [r.method, r.settings, r.goal]
        return json.dumps([r.kind, settings], sort_keys=True, default=str)

    groups = [Group(sorted(runs, key=lambda r: str(r.seed))) for runs in grouped(records, group_key)]
    study = Study(records)
    study.original = next((g for g in groups if g.kind == "original"), None)
    study.retrain = next((g for g in groups if g.kind == "retrain"), None)
    study.methods = [g for g in groups if g.kind not in ("original", "retrain")]
    for group in groups:
        group.retrain = study.retrain
    _set_differences(study.methods)
    study.methods.sort(key=_rank)
    return study


def _rank(group: Group) -> tuple[float, float]:
    """Order by the worse of average and feature gap as printed, then by seconds. Groups without a gap come last."""
    gap = round(group.distance.mean, 2) if group.distance else math.inf
    return gap, group.seconds.mean if group.seconds else math.inf


def _set_differences(groups: list[Group]) -> None:
    """Set the differing settings of groups of the same method."""
    for name in {g.name for g in groups}:
        same = [g for g in groups if g.name == name]
        if len(same) < 2:
            continue
        settings_of = [{**g.runs[0].settings, "goal": g.runs[0].goal} for g in same]
        keys = sorted({k for settings in settings_of for k in settings})
        differing = [
            k
            for k in keys
            if len({json.dumps(s.get(k), sort_keys=True, default=str) for s in settings_of}) > 1
        ]
        for group, settings in zip(same, settings_of, strict=True):
            group.difference = ", ".join(f"{k} {settings.get(k, '–')}" for k in differing)
