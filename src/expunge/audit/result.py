"""What an audit finds: `AuditResult`, and the `Grounds` against a conclusion."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, TypeAlias

from ..summaries import score_html, score_lines, summary

Scores: TypeAlias = dict[str, Any]


@dataclass(frozen=True)
class Grounds:
    """Hold what stands against a conclusion, one sentence each. A text is empty if there is no such reason.

    Args:
        unchanged: The model has the parameters of the original.
        reference: The retrained model is not comparable with the original.
        over_forgotten: The model is far worse on the forget set than on unseen samples. This is a conclusion.
    """

    unchanged: str = ""
    reference: str = ""
    over_forgotten: str = ""

    @property
    def refusals(self) -> list[str]:
        """The reasons why the audit does not conclude."""
        return [text for text in (self.unchanged, self.reference) if text]

    def to_dict(self) -> dict[str, str]:
        """Return the sentences that are not empty, for `Record.details["grounds"]`."""
        return {name: text for name, text in asdict(self).items() if text}

    @classmethod
    def from_details(cls, details: Mapping[str, Any]) -> Grounds:
        """Read the entry "grounds" of the details of an audit or of a record."""
        entry = details.get("grounds")
        values = entry if isinstance(entry, Mapping) else {}
        return cls(**{name: str(values[name]) for name in asdict(cls()) if values.get(name)})


@dataclass(frozen=True)
class AuditResult:
    """Hold the result of an audit.

    Args:
        scores: Scores in percent. With a retrained model, "gap" holds the gaps to it in points. For forgotten classes,
            gap["features"] is the feature gap (`feature_gap.py`).
        details: Figures that the report draws.
        limits: Sentences on what the audit cannot tell.
        examples: Up to 12 forgotten samples: picture, id, label and the prediction of each model (`examples.examples`). No
            record has them, unless somebody asks for it (`Outcome.shown_record`).
    """

    scores: Scores
    details: dict[str, Any] = field(default_factory=dict)
    limits: list[str] = field(default_factory=list)
    examples: list[dict[str, Any]] = field(default_factory=list, repr=False)

    @property
    def grounds(self) -> Grounds:
        """What stands against a conclusion."""
        return Grounds.from_details(self.details)

    def __repr__(self) -> str:
        return summary(f"AuditResult(number of limits: {len(self.limits)})", *score_lines(self.scores))

    def _repr_html_(self) -> str:
        return score_html("Audit", self.scores)

    def __str__(self) -> str:
        shown = [f"{name} {value:.2f}" for name, value in self.scores.items() if isinstance(value, float)]
        gap = self.scores.get("gap")
        without = self.grounds.reference or "no retrained model was given"
        ending = f"avg. gap to Retrain {gap['avg']:.2f}" if gap else f"no gap: {without}"
        if gap and "features" in gap:
            ending += f", feature gap {gap['features']:.2f}"
        return "\n".join([f"{', '.join(shown)}; {ending}", *filter(None, [self.grounds.unchanged])])
