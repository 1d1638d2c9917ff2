"""The runs of one method with the same settings, one per seed."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from functools import cached_property
from importlib.resources import files
from statistics import fmean

from ..records.record import Record
from ..records.statistics import HEADLINE, Stat, run_requests, stat
from .values import number, shares, table, texts, total_variation


def display_name(method: str) -> str:
    """Return the method as its paper spells it: the name of the class in its file.

    The file is read as text, because importing it would import torch.
    """
    if not re.fullmatch(r"[a-z_][a-z0-9_]*", method):
        return method
    try:
        text = files("expunge.methods").joinpath(f"{method}.py").read_text(encoding="utf-8")
    except (OSError, ModuleNotFoundError):
        return method
    match = re.search(r"^class ([A-Z]\w*)\(", text, re.MULTILINE)
    return re.sub("Plus$", "+", match[1]) if match else method


def _reference_score(run: Record, metric: str) -> float | None:
    """Return Retrain's score as the verdict of a record states it."""
    figures = table(table(run.details.get("verdict")).get("figures"))
    return number(table(figures.get(metric)).get("retrained"))


@dataclass
class Group:
    """Hold the runs of one method with the same settings, one per seed.

    Args:
        runs: The records.
        difference: The settings that differ from another group of the same method, as text.
        retrain: The group of the retrained models.
    """

    runs: list[Record]
    difference: str = ""
    retrain: Group | None = field(default=None, repr=False)

    @property
    def kind(self) -> str:
        """Kind of the runs: "original", "retrain", "unlearn" or "erase"."""
        return str(self.runs[0].kind)

    @cached_property
    def name(self) -> str:
        """ "Original", "Before this run" for a model that has answered requests, "Retrain", or the name of the method."""
        if self.kind == "original" and self.runs[0].details.get("answered"):
            return "Before this run"
        references = {"original": "Original", "retrain": "Retrain"}
        return references.get(self.kind) or display_name(str(self.runs[0].method))

    @property
    def label(self) -> str:
        """The name, with the settings that differ from another group of the same method. The union of requests is named."""
        several = len(self._requests)
        union = f"union of {several} requests" if several > 1 else ""
        remarks = ", ".join(filter(None, (self.difference, union)))
        return f"{self.name} ({remarks})" if remarks else self.name

    @property
    def _requests(self) -> list[object]:
        """The requests whose union the first run forgot, where its record lists them."""
        return list(run_requests(self.runs[0].details))

    def score(self, metric: str) -> Stat | None:
        """Return a score over the runs, in percent."""
        return stat(number(r.scores.get(metric)) for r in self.runs)

    def reference(self, run: Record) -> list[Record]:
        """Return the retrained runs to compare `run` with: those of its own seed, else all."""
        references = self.retrain.runs if self.retrain else []
        return [r for r in references if r.seed == run.seed] or references

    def gap_of(self, run: Record, metric: str) -> float | None:
        """Return the signed distance to Retrain in points. Without a retrained run, return the gap of the record.

        The gap of a record has no sign. It gets the one of Retrain's score in the record's verdict, if that is known: see
        `signed`. There is no distance to a retrained model that is not comparable with the original.
        """
        if "reference" in table(run.details.get("grounds")):
            return None
        score = number(run.scores.get(metric))
        reference = stat(number(r.scores.get(metric)) for r in self.reference(run))
        if score is not None and reference is not None:
            return score - reference.mean
        stored = None if self.retrain else number(table(run.scores.get("gap")).get(metric))
        known = _reference_score(run, metric)
        if stored is None or score is None or known is None:
            return stored
        return math.copysign(stored, score - known)

    def signed(self, metric: str) -> bool:
        """Return whether it is known of each run if its score lies above or below Retrain's."""
        return self.retrain is not None or all(_reference_score(r, metric) is not None for r in self.runs)

    def average_of(self, run: Record) -> float | None:
        """Return the mean of |gap| over the four scores that are available."""
        gaps = [abs(g) for m in HEADLINE if (g := self.gap_of(run, m)) is not None]
        if gaps:
            return fmean(gaps)
        without = self.retrain or "reference" in table(run.details.get("grounds"))
        return None if without else number(table(run.scores.get("gap")).get("avg"))

    def gap(self, metric: str) -> Stat | None:
        """Return `gap_of` over the runs."""
        return stat(self.gap_of(r, metric) for r in self.runs)

    @property
    def control(self) -> bool:
        """True for a control: the method with a random or an inverted mask, to compare the mask with."""
        return self.runs[0].settings.get("mask") in ("random", "inverted")

    @cached_property
    def average(self) -> Stat | None:
        """The average gap over the runs."""
        return stat(self.average_of(r) for r in self.runs)

    @cached_property
    def feature_gap(self) -> Stat | None:
        """The feature gap over the runs, in points. Only class-wise audits have it, and old records do not."""
        return stat(number(table(r.scores.get("gap")).get("features")) for r in self.runs)

    @cached_property
    def distance(self) -> Stat | None:
        """The worse of average gap and feature gap of each run, over the runs. Methods are sorted by it."""
        gaps = [(self.average_of(r), number(table(r.scores.get("gap")).get("features"))) for r in self.runs]
        return stat(a if a is None or f is None else max(a, f) for a, f in gaps)

    @property
    def missing(self) -> list[str]:
        """The scores that the average gap leaves out because a value is missing."""
        reference = self.retrain.score if self.retrain else lambda _: None
        return [m for m in HEADLINE if self.gap(m) is None and (self.score(m) or reference(m))]

    @cached_property
    def seconds(self) -> Stat | None:
        """RTE in seconds, over the runs that have it."""
        return stat(s if (s := number(r.seconds)) else None for r in self.runs)

    @property
    def memory(self) -> Stat | None:
        """Peak memory in bytes, over the runs."""
        return stat(number(r.peak_memory) for r in self.runs)

    @property
    def verdict_words(self) -> str:
        """The words of the audit's verdict, such as "under-forgotten". Empty without a verdict."""
        return ", ".join(texts(table(self.shown.details.get("verdict")).get("words")))

    @property
    def grounds(self) -> dict[str, str]:
        """The sentences on what stands against a conclusion from the runs: "unchanged", "reference", "over_forgotten"."""
        entries = [table(r.details.get("grounds")) for r in self.runs]
        return {str(k): str(v) for entry in reversed(entries) for k, v in entry.items()}

    @property
    def moved(self) -> float | None:
        """Total variation distance between the predictions on the forget set and Retrain's, in percent."""
        predictions = table(self.shown.details.get("redistribution"))
        return total_variation(shares(predictions.get("unlearned")), shares(predictions.get("retrained")))

    @property
    def shown(self) -> Record:
        """The run whose curves and figures the report shows: the first with details, else the first."""
        return next((r for r in self.runs if r.details), self.runs[0])
