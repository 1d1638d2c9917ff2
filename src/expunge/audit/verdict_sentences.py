"""The sentences of a verdict: what each word means, and what the verdict cannot tell."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..data.split import Goal
from .strong_findings import Word

# {score: {"value", "retrained", "allowed", "beyond"}}
Figures = dict[str, dict[str, Any]]

GOALS: dict[str, str] = {
    "untrain": "The goal was to remove the influence of the samples. The reference is a model that was trained without "
    "exactly these samples. It may still classify them correctly.",
    "unlearn": "The goal was to remove the ability. The reference is a model that was trained without any sample of the "
    "concept, including samples that the method did not see.",
}
NO_REFERENCE = (
    "No retrained model was given. The audit cannot tell whether the model is close to one that never saw the forget "
    "set, or whether it forgot too little or too much. No score is good or bad by itself. Train a model on the retain "
    "set alone and give it as the retrained model."
)


def side(figures: Figures, name: str) -> float:
    """Return the signed difference to Retrain if it is beyond the allowed distance, else 0."""
    f = figures.get(name)
    return f["value"] - f["retrained"] if f and f["beyond"] else 0.0


def word_sentence(word: Word, figures: Figures, seeds: int, *, alone: bool) -> str:
    """Explain a word by the scores. `alone` is False if the strong audit adds words."""

    def listed(names: Sequence[str]) -> str:
        return ", ".join(
            f"{n} {figures[n]['value']:.2f} against {figures[n]['retrained']:.2f} (allowed ±{figures[n]['allowed']:.2f})"
            for n in names
            if n in figures
        )

    sides = {n: side(figures, n) for n in figures if figures[n]["beyond"]}
    if word == "indistinguishable":
        spread = (
            f"the spread of {seeds} retrained models" if seeds > 1 else "the sampling error of the scores"
        )
        relation = "indistinguishable from" if alone else "close to"
        return f"By {', '.join(figures)} the model is {relation} Retrain within {spread}: {listed(list(figures))}."
    if word == "utility lost":
        return f"Utility lost, accuracy is below Retrain's: {listed([n for n in ('RA', 'TA') if sides.get(n, 0) < 0])}."
    if word == "under-forgotten":
        names = [n for n, s in sides.items() if (n in ("UA", "MIA") and s < 0) or (n == "TFA" and s > 0)]
        return f"Under-forgotten, the model knows more of the forget set than Retrain: {listed(names)}."
    if word == "over-forgotten":
        names = [n for n, s in sides.items() if (n in ("UA", "MIA") and s > 0) or (n == "TFA" and s < 0)]
        meaning = "the model is worse on the forget set than Retrain, which also reveals the forget set"
        return f"Over-forgotten, {meaning}: {listed(names)}."
    where = ", but not in forgetting" if alone else " in accuracy"
    return f"Different from Retrain{where}: {listed(list(sides))}."


def nothing_to_do(before: Figures) -> list[str]:
    """Return that the model before unlearning is at Retrain's level too. `before` has its figures."""
    listed = ", ".join(f"{n} {f['value']:.2f} against {f['retrained']:.2f}" for n, f in before.items())
    return [
        f"The model before unlearning is as close to Retrain: {listed}. So these scores show no effect of unlearning, and nothing "
        "had to be done to reach them."
    ]


def limit_sentences(
    goal: Goal, seeds: int, of_one_model: list[str], unreliable_mia: bool, attacks: bool, features: bool
) -> list[str]:
    """Return a sentence for everything that the verdict cannot tell."""
    limits = []
    if of_one_model:
        which = "was given" if seeds == 1 else f"has {', '.join(of_one_model)}"
        limits.append(
            f"Only one retrained model {which}, so the spread over seeds is unknown. The allowed distance is the sampling "
            "error of the scores alone. A small difference may come from the seed."
        )
    if unreliable_mia:
        limits.append(
            "MIA takes no part in the verdict. For this model or for a retrained one, MIA and MIA_entropy contradict each "
            "other, so MIA is unreliable."
        )
    limits.append(GOALS[goal])
    if not attacks:
        limits.append(
            "Only the standard attacks were run. They see averages. Attacks on single samples (level strong) can find what "
            "they miss."
        )
    if not features:
        limits.append("The audit did not examine features. An edit of the head alone would pass.")
    return limits
