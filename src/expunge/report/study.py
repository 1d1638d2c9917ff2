"""Records sorted for the report: runs of one setting side by side, seeds of one method together."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib.resources import files
from statistics import fmean
from typing import Any

from ..records.record import Record
from ..records.statistics import HEADLINE, Stat, grouped, stat
from .values import apart, number, shares, table, texts

TEXTS = ("kind", "method", "goal", "task", "status", "created", "command")
TABLES = ("settings", "model", "data", "split", "scores", "details", "machine")
_PER_SEED = {"seed", "hash", "train_hash", "sizes", "goal"}


def spelled(method: str) -> str:
    """The method as its paper spells it: the name of the class in its file (read as text, not imported)."""
    if not re.fullmatch(r"[a-z_][a-z0-9_]*", method):
        return method
    try:
        text = files("expunge.methods").joinpath(f"{method}.py").read_text(encoding="utf-8")
    except (OSError, ModuleNotFoundError):
        return method
    match = re.search(r"^class ([A-Z]\w*)\(", text, re.MULTILINE)
    return re.sub("Plus$", "+", match[1]) if match else method


@dataclass
class Group:
    """Runs of one method with the same settings, one a seed."""

    runs: list[Record]
    difference: str = ""  # the settings that tell it from another group of the same method
    retrain: Group | None = field(default=None, repr=False)

    @property
    def kind(self) -> str:
        """What its runs are: "original", "retrain", "unlearn" or "erase"."""
        return str(self.runs[0].kind)

    @cached_property
    def name(self) -> str:
        """ "Original", "Retrain", or the method's spelling."""
        fixed = {"original": "Original", "retrain": "Retrain"}
        return fixed.get(self.kind) or spelled(str(self.runs[0].method))

    @property
    def label(self) -> str:
        """The name, with what tells it from its namesakes."""
        return f"{self.name} ({self.difference})" if self.difference else self.name

    def score(self, metric: str) -> Stat | None:
        """A score over the runs, percent."""
        return stat(number(r.scores.get(metric)) for r in self.runs)

    def reference(self, run: Record) -> list[Record]:
        """The retrained runs to judge `run` by: those of its own seed, else all of the setting."""
        every = self.retrain.runs if self.retrain else []
        return [r for r in every if r.seed == run.seed] or every

    def gap_of(self, run: Record, metric: str) -> float | None:
        """Signed distance to Retrain in points; without a retrained run, what the record stored."""
        own = number(run.scores.get(metric))
        there = stat(number(r.scores.get(metric)) for r in self.reference(run))
        if own is not None and there is not None:
            return own - there.mean
        return None if self.retrain else number(table(run.scores.get("gap")).get(metric))

    def average_of(self, run: Record) -> float | None:
        """Mean of |gap| over the four scores, as far as they are there."""
        gaps = [abs(g) for m in HEADLINE if (g := self.gap_of(run, m)) is not None]
        if gaps:
            return fmean(gaps)
        return None if self.retrain else number(table(run.scores.get("gap")).get("avg"))

    def gap(self, metric: str) -> Stat | None:
        """`gap_of` over the runs."""
        return stat(self.gap_of(r, metric) for r in self.runs)

    @cached_property
    def average(self) -> Stat | None:
        """The avg. gap over the runs."""
        return stat(self.average_of(r) for r in self.runs)

    @property
    def missing(self) -> list[str]:
        """Which of the scores that were taken the avg. gap does without."""
        there = self.retrain.score if self.retrain else lambda _: None
        return [m for m in HEADLINE if self.gap(m) is None and (self.score(m) or there(m))]

    @cached_property
    def seconds(self) -> Stat | None:
        """RTE over the runs that have one, seconds."""
        return stat(s if (s := number(r.seconds)) else None for r in self.runs)

    @property
    def memory(self) -> Stat | None:
        """Peak memory over the runs, bytes."""
        return stat(number(r.peak_memory) for r in self.runs)

    @property
    def judgement(self) -> str:
        """The words of the audit's verdict ("under-forgotten"), if there was one."""
        return ", ".join(texts(table(self.shown.details.get("verdict")).get("words")))

    @property
    def moved(self) -> float | None:
        """How far from Retrain's the predictions on forgotten samples are: total variation, percent."""
        found = table(self.shown.details.get("redistribution"))
        return apart(shares(found.get("unlearned")), shares(found.get("retrained")))

    @property
    def shown(self) -> Record:
        """The run whose curves and figures stand for the group: the first with figures, else the first."""
        return next((r for r in self.runs if r.details), self.runs[0])


@dataclass
class Study:
    """All runs of one setting (task, data, model, way of splitting): what may stand in one table."""

    records: list[Record]
    original: Group | None = None
    retrain: Group | None = None
    methods: list[Group] = field(
        default_factory=list
    )  # by avg. gap, smallest first; those without one at the end

    @property
    def lead(self) -> Record:
        """A record to tell the setting by."""
        return self.methods[0].shown if self.methods else self.records[0]

    @property
    def groups(self) -> list[Group]:
        """The rows of the table: original, Retrain, methods."""
        return [g for g in (self.original, self.retrain, *self.methods) if g is not None]

    @property
    def judged(self) -> list[Group]:
        """The methods that have an avg. gap."""
        return [g for g in self.methods if g.average is not None]

    @cached_property
    def classes(self) -> list[str]:
        """Class names as far as known."""
        every = [r.data.get("classes") for r in self.records]
        found: list[Any] = next((list(v) for v in every if isinstance(v, list | tuple) and v), [])
        return [str(c) for c in found]

    @cached_property
    def forgotten(self) -> list[int]:
        """The forgotten classes of a class-wise split, else nothing."""
        every = [r.split.get("forget_classes") for r in self.records]
        found: list[Any] = next((list(v) for v in every if isinstance(v, list | tuple) and v), [])
        return [c for c in found if isinstance(c, int)]

    def class_name(self, index: Any) -> str:
        """A class by its name, else by its number."""
        if isinstance(index, int) and 0 <= index < len(self.classes):
            return self.classes[index]
        return "–" if index is None else f"class {index}"


def studies(records: Sequence[Record]) -> list[Study]:
    """The records by setting, in order of appearance; without a split, with the first of their task."""
    found: dict[str, list[Record]] = {}
    first: dict[str, str] = {}
    for record in sorted(map(_typed, records), key=lambda r: not r.split):
        setting = _setting(record) if record.split else first.get(record.task) or _setting(record)
        first.setdefault(record.task, setting)
        found.setdefault(setting, []).append(record)
    return [_study(rows) for rows in found.values()]


def _typed(record: Record) -> Record:
    """A copy whose text fields are text and whose tables are tables, whatever the file had in their place."""
    changed: dict[str, Any] = {k: str(getattr(record, k)) for k in TEXTS} | {
        k: table(getattr(record, k)) for k in TABLES
    }
    curves = [r for r in record.curves if isinstance(r, dict)] if isinstance(record.curves, list) else []
    return replace(record, curves=curves, **changed)


def _setting(record: Record) -> str:
    split = {k: v for k, v in record.split.items() if k not in _PER_SEED}
    parts = [record.task, record.data.get("name"), record.model.get("name"), split]
    return json.dumps(parts, sort_keys=True, default=str)


def _study(records: list[Record]) -> Study:
    def row(r: Record) -> str:
        own = [] if r.kind in ("original", "retrain") else [r.method, r.settings, r.goal]
        return json.dumps([r.kind, own], sort_keys=True, default=str)

    groups = [Group(sorted(runs, key=lambda r: str(r.seed))) for runs in grouped(records, row)]
    study = Study(records)
    study.original = next((g for g in groups if g.kind == "original"), None)
    study.retrain = next((g for g in groups if g.kind == "retrain"), None)
    study.methods = [g for g in groups if g.kind not in ("original", "retrain")]
    for group in groups:
        group.retrain = study.retrain
    _tell_apart(study.methods)
    study.methods.sort(key=_rank)
    return study


def _rank(group: Group) -> tuple[float, float]:
    """By avg. gap as printed, then by seconds; those without one last."""
    gap = round(group.average.mean, 2) if group.average else math.inf
    return gap, group.seconds.mean if group.seconds else math.inf


def _tell_apart(groups: list[Group]) -> None:
    """Give groups of the same method the settings in which they differ."""
    for name in {g.name for g in groups}:
        same = [g for g in groups if g.name == name]
        if len(same) < 2:
            continue
        every = [{**g.runs[0].settings, "goal": g.runs[0].goal} for g in same]
        keys = sorted({k for s in every for k in s})
        differ = [
            k for k in keys if len({json.dumps(s.get(k), sort_keys=True, default=str) for s in every}) > 1
        ]
        for group, settings in zip(same, every, strict=True):
            group.difference = ", ".join(f"{k} {settings.get(k, '–')}" for k in differ)
