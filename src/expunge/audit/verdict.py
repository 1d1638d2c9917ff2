"""The audit in plain words: what the figures allow to be said, the figures that decide it, and what cannot
be said.

No verdict says that data is forgotten, proven or certified: it compares one model's figures with those of
models that never saw the data, by the attacks that were run.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..data.split import Goal
from ..errors import ExpungeError
from ..records.statistics import HEADLINE, stat
from .accuracy import contradicted
from .residue import Word, sampling_error, stronger

# two-sided 95 % quantiles of Student's t for 1, 2, ... degrees of freedom; the last for all above
T95 = (
    12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26, 2.23, 2.20, 2.18, 2.16, 2.14, 2.13, 2.12, 2.11, 2.10, 2.09, 2.09,
    2.08,
)  # fmt: skip
FLOOR = 0.5  # points: differences below this are never called a difference
GOALS: dict[str, str] = {
    "untrain": "The goal was to remove the samples' influence: the reference is a model trained without exactly these samples, "
    "which may still get them right.",
    "unlearn": "The goal was to remove the ability: the reference is a model trained without any sample of the concept, shown to "
    "the method or not.",
}


@dataclass(frozen=True)
class Verdict:
    """`words`, most important first; `sentences` for people; `figures`: {measure: {value, retrained,
    allowed, beyond}}; `limits`: what cannot be said."""

    words: list[Word]
    sentences: list[str]
    figures: dict[str, dict[str, Any]] = field(default_factory=dict)
    limits: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return "\n".join([f"Verdict: {', '.join(self.words)}.", *self.sentences, *self.limits])

    def to_dict(self) -> dict[str, Any]:
        """For a record."""
        return {
            "words": list(self.words),
            "sentences": self.sentences,
            "limits": self.limits,
            "figures": self.figures,
        }


def allowed(values: Sequence[float], size: int) -> tuple[float, bool]:
    """How far one more model may lie from the mean of `values` (percent) and still be one of them; whether
    that is measured.

    From several retrained models: the 95 % prediction interval, t s sqrt(1 + 1/n). From one: the sampling
    error of two shares of `size` samples, a lower bound, since seeds differ too. Never below half a point
    or one sample.
    """
    found = stat(values)
    assert found is not None
    least = max(FLOOR, 100 / max(size, 1))
    if found.spread is not None:
        quantile = T95[min(found.n - 2, len(T95) - 1)]
        return max(least, quantile * found.spread * math.sqrt(1 + 1 / found.n)), True
    return max(least, sampling_error(found.mean, size)), False


def verdict(
    scores: Mapping[str, Any],
    retrained: Sequence[Mapping[str, Any]] = (),
    *,
    sizes: Mapping[str, int] | None = None,
    goal: Goal = "unlearn",
    attacks: Mapping[str, Any] | None = None,
    features: Mapping[str, Any] | None = None,
    original: Mapping[str, Any] | None = None,
) -> Verdict:
    """The verdict on a model from its scores and those of one or more retrained models (seeds of one recipe).

    `sizes` are `Split.sizes`; `attacks` and `features` the strong audit's, which can only make the verdict
    stricter.
    """
    if not retrained:
        lines = _alone(scores, original)
        return Verdict(
            ["unknown"],
            lines,
            {},
            [
                "No retrained model was given. Whether the model is near one that never saw the data, and whether it "
                "forgot too little or too much, cannot be said: no score is good or bad by itself. Retrain on the retain "
                "set alone to find out.",
                GOALS[goal],
            ],
        )
    counts = sizes or {}
    of = {"UA": "forget", "RA": "retain", "TA": "test", "MIA": "forget", "TFA": "test_forgotten"}
    figures, once = {}, []
    doubtful = any(contradicted(found) for found in (scores, *retrained))
    for name in (*HEADLINE, "TFA"):
        theirs = [float(r[name]) for r in retrained if r.get(name) is not None]
        if scores.get(name) is None or not theirs or (doubtful and name == "MIA"):
            continue
        width, measured = allowed(theirs, counts.get(of[name], 1000))
        once += [] if measured else [name]
        mean, mine = sum(theirs) / len(theirs), float(scores[name])
        figures[name] = {
            "value": mine,
            "retrained": mean,
            "allowed": width,
            "beyond": abs(mine - mean) > width,
        }
    words = _words(figures)
    more, found = stronger(
        attacks or {}, features or {}, counts.get("test_forgotten") or 1000, counts.get("test") or 1000
    )
    sentences = [_sentence(w, figures, len(retrained), alone=not found) for w in words]
    if found:
        words = [*found, *(w for w in words if w not in found and w != "indistinguishable")]
    limits = [GOALS[goal]]
    if doubtful:
        limits.insert(
            0,
            "MIA takes no part: of this model or of a retrained one it and MIA_entropy contradict each other, so it is no finding.",
        )
    if once:
        few = "was given" if len(retrained) == 1 else f"has {', '.join(once)}"
        limits.insert(
            0,
            f"Only one retrained model {few}, so the spread over seeds is not known: the interval is the sampling "
            "error of the scores alone, and a small difference may be the seed's.",
        )
    if not attacks:
        limits.append(
            "Only the standard attacks were run; they see averages. Per-example attacks (level strong) can find what they miss."
        )
    if not features:
        limits.append("Features below the head were not looked at: a head edit would pass.")
    return Verdict(words, sentences + more, figures, limits)


def _side(figures: Mapping[str, Any], name: str) -> float:
    """The signed difference to Retrain where it is beyond what is allowed, else 0."""
    f = figures.get(name)
    return f["value"] - f["retrained"] if f and f["beyond"] else 0.0


def _words(figures: Mapping[str, Any]) -> list[Word]:
    """Retained and test accuracy decide on utility; UA, MIA and TFA on forgetting, the forget set first."""
    found: list[Word] = []
    if _side(figures, "RA") < 0 or _side(figures, "TA") < 0:
        found.append("utility lost")
    under = _side(figures, "UA") < 0 or _side(figures, "MIA") < 0 or _side(figures, "TFA") > 0
    over = _side(figures, "UA") > 0 or _side(figures, "MIA") > 0 or _side(figures, "TFA") < 0
    if under:
        found.append("under-forgotten")
    if over:
        found.append("over-forgotten")
    if not found and any(f["beyond"] for f in figures.values()):
        found.append("different")
    return found or ["indistinguishable"]


def _sentence(word: Word, figures: Mapping[str, Any], seeds: int, *, alone: bool) -> str:
    """What a word says of the scores; `alone` unless the strong audit's figures say more than they."""

    def listed(names: Sequence[str]) -> str:
        return ", ".join(
            f"{n} {figures[n]['value']:.2f} against {figures[n]['retrained']:.2f} (allowed ±{figures[n]['allowed']:.2f})"
            for n in names
            if n in figures
        )

    beyond = {n: _side(figures, n) for n in figures if figures[n]["beyond"]}
    if word == "indistinguishable":
        of = f"the spread of {seeds} retrained models" if seeds > 1 else "the sampling error of the scores"
        where = "indistinguishable from" if alone else "near"
        return f"By {', '.join(figures)} {where} Retrain within {of}: {listed(list(figures))}."
    if word == "utility lost":
        return f"Utility lost: {listed([n for n in ('RA', 'TA') if beyond.get(n, 0) < 0])}."
    if word == "under-forgotten":
        names = [
            n for n, side in beyond.items() if (n in ("UA", "MIA") and side < 0) or (n == "TFA" and side > 0)
        ]
        return f"Under-forgotten, the model knows more of the forget set than Retrain: {listed(names)}."
    if word == "over-forgotten":
        names = [
            n for n, side in beyond.items() if (n in ("UA", "MIA") and side > 0) or (n == "TFA" and side < 0)
        ]
        worse = (
            "Over-forgotten, worse on the forget set than a model that never saw it, which marks it as well"
        )
        return f"{worse}: {listed(names)}."
    where = ", though not in forgetting" if alone else " in accuracy"
    return f"Different from Retrain{where}: {listed(list(beyond))}."


def _alone(scores: Mapping[str, Any], original: Mapping[str, Any] | None) -> list[str]:
    shown = ", ".join(f"{n} {scores[n]:.2f}" for n in HEADLINE if scores.get(n) is not None)
    lines = [f"No verdict: the scores alone are {shown}."]
    if original:
        lines.append(
            ", ".join(
                f"{n} changed by {scores[n] - original[n]:+.2f}"
                for n in HEADLINE
                if scores.get(n) is not None and original.get(n) is not None
            )
            + " points from the original."
        )
    return lines


def within_gap(scores: Mapping[str, Any], max_gap: float) -> bool:
    """Whether the avg. gap to Retrain is at most `max_gap` points, for exit codes. Raises `ExpungeError`
    where there is none.
    """
    gap = (scores.get("gap") or {}).get("avg")
    if gap is None or not math.isfinite(gap):
        raise ExpungeError("there is no avg. gap to hold against a limit: give a retrained model.")
    return gap <= max_gap
