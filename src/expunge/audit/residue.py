"""What the strong audit's figures add to a verdict: sentences, and words that the scores alone would not give."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

Word = Literal[
    "indistinguishable", "under-forgotten", "over-forgotten", "utility lost", "different", "unknown"
]

BELOW_THE_HEAD = {
    "corrected_forgotten": "One number added to the head brings back",
    "probe_forgotten": "A linear probe finds",
    "knn_forgotten": "Neighbours in feature space find",
}
POINTS = 5.0  # that a share below the head must differ from Retrain's to count
SOONER = 0.5  # of Retrain's steps: relearning in fewer, by both optimizers, is residue (Retrain's own seeds differ twofold)


def stronger(
    attacks: Mapping[str, Any], features: Mapping[str, Any], unseen: int, others: int
) -> tuple[list[str], list[Word]]:
    """Sentences on the strong audit's figures, and the words that they add to the scores'.

    `unseen` is the number of test samples of the forgotten classes, `others` that of the retained ones: what the probes'
    figures are shares of.
    """
    lines: list[str] = []
    words: list[Word] = []

    def say(figures: str, seen: bool, word: Word, meaning: str) -> None:
        """A sentence on figures; where they see a difference, what it means, and the word for it."""
        lines.append(f"{figures}: {meaning}." if seen else f"{figures}.")
        if seen:
            words.append(word)

    for name in ("U-LiRA", "RMIA"):
        told = attacks.get(name) or {}
        if told.get("auc") is None:
            continue
        off = told["auc"] - 0.5
        seen = abs(off) > noise(told) and (off > 0 or name == "RMIA")
        # U-LiRA tells the two apart in either direction, the margins say in which; RMIA is high for members only
        residue = (told.get("margin_shift") or 0.0) >= 0 if name == "U-LiRA" else off > 0
        if seen:
            words.append("under-forgotten" if residue else "over-forgotten")
        beside = "".join(
            f"; {told[key]:.3f} {text}"
            for key, text in (
                ("auc_null", "between two sets of retrained models"),
                ("auc_original", "without unlearning"),
            )
            if told.get(key) is not None
        )
        verb = "tells" if seen else "does not tell"
        lines.append(
            f"{name} {verb} unlearned from retrained models by single samples: AUC {told['auc']:.3f}{beside}."
        )
    for measure, text in BELOW_THE_HEAD.items():
        f = features.get(measure) or {}
        if f.get("unlearned") is None or f.get("retrained") is None:
            continue
        say(
            f"{text} {f['unlearned']:.1f} % of the forgotten class's test samples, {f['retrained']:.1f} % in the retrained model",
            f["unlearned"] - f["retrained"] > max(POINTS, _error(f, unseen)),
            "under-forgotten",
            "forgetting does not reach below the head",
        )
    both = [features.get(k) or {} for k in ("corrected_forgotten", "corrected_retained")]
    if all(f.get(k) is not None for f in both for k in ("unlearned", "retrained")):
        # the shift trades one for the other, from seed to seed differently: their mean is what holds still
        mine, theirs = (sum(f[k] for f in both) / 2 for k in ("unlearned", "retrained"))
        errors = [_error(f, size) for f, size in zip(both, (unseen, others), strict=True)]
        say(
            f"With the class so brought back, {both[1]['unlearned']:.1f} % of the other classes' test samples are still "
            f"recognised, {both[1]['retrained']:.1f} % in the retrained model; the mean of both shares is {mine:.1f} % and "
            f"{theirs:.1f} %",
            theirs - mine > max(POINTS, math.hypot(*errors) / 2),
            "different",
            "the class lies among the others as it does in no model that never saw it",
        )
    relearned = attacks.get("relearning delay") or {}
    delays = [relearned.get(k) or {} for k in ("sgd", "adam")]
    if all(d.get("delay") is not None for d in delays):
        say(
            f"Steps of SGD / Adam until the forget set is learned again: {_steps(delays, 'steps')}, in the retrained "
            f"model {_steps(delays, 'steps_retrained')}",
            all(d["delay"] < SOONER for d in delays),
            "under-forgotten",
            "it had not been forgotten",
        )
    alike = features.get("cka_original") or {}
    if (alike.get("unlearned") or 0) > 0.9999 > 0.999 > (alike.get("retrained") or 1):
        words.append("under-forgotten")
        lines.append("The features are the original's: nothing below the head was changed.")
    return lines, list(dict.fromkeys(words))


def _error(told: Mapping[str, Any], size: int) -> float:
    return sampling_error((told["unlearned"] + told["retrained"]) / 2, size)


def sampling_error(percent: float, size: int) -> float:
    """How far two shares of `size` samples, of about `percent`, may differ by chance, at 95 % (points)."""
    share = min(max(percent / 100, 0.0), 1.0)
    return 100 * 1.96 * math.sqrt(2 * share * (1 - share) / max(size, 1))


def _steps(delays: Sequence[Mapping[str, Any]], whose: str) -> str:
    return " / ".join("not reached" if d[whose] is None else str(d[whose]) for d in delays)


def noise(told: Mapping[str, Any]) -> float:
    """How far above 0.5 an AUC may lie by chance: two standard errors over target models, at least 0.02 and at least as far
    as two sets of retrained models are from 0.5."""
    null = told["auc_null"] if told.get("auc_null") is not None else 0.5
    return max(
        0.02, abs(null - 0.5), 2 * (told.get("spread") or 0.0) / math.sqrt(max(1, told.get("shadows") or 1))
    )
