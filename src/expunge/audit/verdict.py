"""Put the audit into plain words: what the figures say, which figures decide, and what they cannot tell.

A verdict compares one model's figures with those of models that never saw the data, by the attacks that were run. No
verdict calls the data proven or certified to be forgotten.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..data.split import Goal
from ..errors import ExpungeError
from ..records.statistics import HEADLINE, contradicted, limit_gap, stat
from .grounds import grounds_of_scores
from .over_forgotten import UNKNOWN_SIZE
from .result import Grounds
from .strong_findings import Word, sampling_error, strong_findings
from .verdict_sentences import (
    GOALS,
    NO_REFERENCE,
    Figures,
    explained,
    lacking_before,
    limit_sentences,
    side,
    too_few,
)

# Differences of fewer points than this never count.
FLOOR = 0.5
# The set of the split that each score is a share of.
SET_OF = {"UA": "forget", "RA": "retain", "TA": "test", "MIA": "forget", "TFA": "test_forgotten"}


@dataclass(frozen=True)
class Verdict:
    """Hold a verdict.

    Args:
        words: Verdict words, the most important one first.
        sentences: Sentences that explain the words.
        figures: {score: {"value", "retrained", "allowed", "beyond"}}. "allowed" is the allowed distance in points.
        limits: Sentences on what the verdict cannot tell.
    """

    words: list[Word]
    sentences: list[str]
    figures: Figures = field(default_factory=dict)
    limits: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return "\n".join([f"Verdict: {', '.join(self.words)}.", *self.sentences, *self.limits])

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as a dictionary for a record."""
        return {
            "words": list(self.words),
            "sentences": self.sentences,
            "limits": self.limits,
            "figures": self.figures,
        }


def verdict(
    scores: Mapping[str, Any],
    retrained: Sequence[Mapping[str, Any]] = (),
    *,
    sizes: Mapping[str, int] | None = None,
    goal: Goal = "unlearn",
    attacks: Mapping[str, Any] | None = None,
    features: Mapping[str, Any] | None = None,
    original: Mapping[str, Any] | None = None,
    grounds: Grounds | None = None,
) -> Verdict:
    """Give the verdict on a model from its scores and those of retrained models.

    Args:
        scores: Scores of the unlearned model.
        retrained: Scores of one or more retrained models, which differ only in their seed.
        sizes: Number of samples in each set, as `Split.sizes`. The default assumes 1000 for each.
        goal: The goal of the split. It names the reference.
        attacks: Attacks of the strong audit. They can only make the verdict stricter.
        features: Features of the strong audit. They can only make the verdict stricter.
        original: Scores of the original. A retrained model that is not comparable with them gives no conclusion.
        grounds: What stands against a conclusion: `AuditResult.grounds`. The default takes it from the scores.

    Returns:
        The verdict. Its word is "unchanged" for the original itself, "no conclusion" if the retrained model is not
        comparable with the original, and "unknown" without a retrained model or with too few samples to tell a difference.
        "over-forgotten" needs no retrained model.

    Example:
        >>> print(verdict(scores, [retrained_scores], sizes=split.sizes, goal=split.goal))
        Verdict: indistinguishable.
        ...
    """
    counts = sizes or {}
    if grounds is None:
        grounds = grounds_of_scores(scores, retrained, original, sizes=counts, goal=goal)
    if grounds.reference or not retrained:
        return _without_comparison(scores, goal, original, grounds)
    unreliable_mia = any(contradicted(s) for s in (scores, *retrained))
    figures, of_one_model = _compare(scores, retrained, counts, unreliable_mia)
    unreliable_before = unreliable_mia or contradicted(original or {})
    before, _ = _compare(original or {}, retrained, counts, unreliable_before)
    words = _words(figures, lacking_before(figures, before))
    strong_sentences, strong_words = strong_findings(
        attacks or {},
        features or {},
        counts.get("test_forgotten") or UNKNOWN_SIZE,
        counts.get("test") or UNKNOWN_SIZE,
    )
    if grounds.over_forgotten and "over-forgotten" not in words:
        strong_words = [*strong_words, "over-forgotten"]
        strong_sentences = [*strong_sentences, grounds.over_forgotten]
    if grounds.unchanged:
        # scores that agree with Retrain's are no success of a run that did nothing
        strong_words = ["unchanged", *strong_words]
        strong_sentences = [grounds.unchanged, *strong_sentences]
    few = too_few(figures, counts, of_one_model) if words == ["indistinguishable"] else []
    sentences = explained(words, figures, before, len(retrained), few, strong=bool(strong_words))
    words = ["unknown"] if few else words
    if strong_words:
        weaker = [w for w in words if w not in strong_words and w not in ("indistinguishable", "unknown")]
        words = list(dict.fromkeys([*strong_words, *weaker]))
    limits = limit_sentences(
        goal, len(retrained), of_one_model, unreliable_mia, bool(attacks), bool(features)
    )
    return Verdict(words, sentences + strong_sentences, figures, limits)


def allowed_distance(values: Sequence[float], size: int) -> tuple[float, bool]:
    """Return how far one more retrained model may lie from the mean of some, and whether this is measured.

    From several retrained models, the distance is the 95 % prediction interval t s sqrt(1 + 1/n). From one, it is the
    sampling error of two shares. This is a lower bound, because seeds differ too. The distance is never below half a
    point or one sample.

    Args:
        values: A score of each retrained model, in percent.
        size: Number of samples behind the score.

    Returns:
        The distance in points, and True if it comes from the spread over seeds.
    """
    summary = stat(values)
    assert summary is not None
    least = max(FLOOR, 100 / max(size, 1))
    if summary.spread is not None:
        from scipy.special import stdtrit

        quantile = float(stdtrit(summary.n - 1, 0.975))
        return max(least, quantile * summary.spread * math.sqrt(1 + 1 / summary.n)), True
    return max(least, sampling_error(summary.mean, size)), False


def within_gap(scores: Mapping[str, Any], max_gap: float) -> bool:
    """Return whether the avg. gap to Retrain, without an unreliable MIA, is at most a limit, for an exit code.

    Args:
        scores: Scores with "gap".
        max_gap: The limit, in points.

    Raises:
        ExpungeError: If the scores have no finite gap.

    Example:
        >>> within_gap({"gap": {"avg": 1.5}}, 2.0)
        True
    """
    gap = limit_gap(scores)
    if gap is None or not math.isfinite(gap):
        raise ExpungeError("there is no avg. gap to compare with the limit; give a retrained model.")
    return gap <= max_gap


def _compare(
    scores: Mapping[str, Any],
    retrained: Sequence[Mapping[str, Any]],
    counts: Mapping[str, int],
    unreliable_mia: bool,
) -> tuple[Figures, list[str]]:
    """Compare each score with the retrained models'. Also return the scores that only one of them has."""
    figures: Figures = {}
    of_one_model = []
    for name in (*HEADLINE, "TFA"):
        references = [float(r[name]) for r in retrained if r.get(name) is not None]
        if scores.get(name) is None or not references or (unreliable_mia and name == "MIA"):
            continue
        distance, measured = allowed_distance(references, counts.get(SET_OF[name], UNKNOWN_SIZE))
        if not measured:
            of_one_model.append(name)
        mean, value = sum(references) / len(references), float(scores[name])
        figures[name] = {
            "value": value,
            "retrained": mean,
            "allowed": distance,
            "beyond": abs(value - mean) > distance,
        }
    return figures, of_one_model


def _words(figures: Figures, lacking: Sequence[str] = ()) -> list[Word]:
    """Choose words from scores. RA and TA decide on utility, without those `lacking` before. UA, MIA and TFA decide on forgetting."""
    words: list[Word] = []
    if any(side(figures, name) < 0 for name in ("RA", "TA") if name not in lacking):
        words.append("utility lost")
    if side(figures, "UA") < 0 or side(figures, "MIA") < 0 or side(figures, "TFA") > 0:
        words.append("under-forgotten")
    if side(figures, "UA") > 0 or side(figures, "MIA") > 0 or side(figures, "TFA") < 0:
        words.append("over-forgotten")
    if not words and any(f["beyond"] for f in figures.values()):
        words.append("different")
    return words or ["indistinguishable"]


def _without_comparison(
    scores: Mapping[str, Any], goal: Goal, original: Mapping[str, Any] | None, grounds: Grounds
) -> Verdict:
    """Give the verdict without a retrained model that the scores can be compared with."""
    words: list[Word] = ["no conclusion" if grounds.reference else "unknown"]
    if grounds.over_forgotten:
        words = ["over-forgotten"]
    if grounds.unchanged:
        words = ["unchanged"]
    sentences = [
        grounds.unchanged or grounds.over_forgotten or grounds.reference or "No verdict is possible."
    ]
    shown = ", ".join(f"{n} {scores[n]:.2f}" for n in HEADLINE if scores.get(n) is not None)
    sentences.append(f"The scores are {shown}.")
    if original and not grounds.unchanged:
        changes = ", ".join(
            f"{n} {scores[n] - original[n]:+z.2f}"
            for n in HEADLINE
            if scores.get(n) is not None and original.get(n) is not None
        )
        sentences.append(f"Changes from the model before unlearning, in points: {changes}.")
    limits = [NO_REFERENCE] if not grounds.refusals else []
    if grounds.reference and grounds.reference not in sentences:
        limits.append(grounds.reference)
    return Verdict(words, sentences, {}, [*limits, GOALS[goal]])
