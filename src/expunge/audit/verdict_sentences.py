"""The sentences of a verdict: what each word means, and what the verdict cannot tell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..data.split import Goal
from .strong_findings import Word, sampling_error

# {score: {"value", "retrained", "allowed", "beyond"}}
Figures = dict[str, dict[str, Any]]

# Largest allowed distance of a forget score, in points, at which agreement with Retrain means something. It takes some 30 samples.
POWER = 20.0

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


def word_sentence(
    word: Word, figures: Figures, seeds: int, *, alone: bool, before: Figures | None = None
) -> str:
    """Explain a word by the scores.

    Args:
        word: The word.
        figures: The figures of the model.
        seeds: Number of retrained models.
        alone: False if something else than the scores decides too.
        before: The figures of the model before unlearning, if they are known.
    """
    before = before or {}

    def listed(names: Sequence[str], *, beside: Figures | None = None) -> str:
        return ", ".join(
            f"{n} {figures[n]['value']:.2f} against {figures[n]['retrained']:.2f} (allowed ±{figures[n]['allowed']:.2f}"
            + (f"; {beside[n]['value']:.2f} before unlearning)" if beside and n in beside else ")")
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
        names = [n for n in ("RA", "TA") if sides.get(n, 0) < 0 and n not in lacking_before(figures, before)]
        return f"Utility lost, accuracy is below Retrain's: {listed(names, beside=before)}."
    if word == "under-forgotten":
        names = [n for n, s in sides.items() if (n in ("UA", "MIA") and s < 0) or (n == "TFA" and s > 0)]
        return f"Under-forgotten, the model knows more of the forget set than Retrain: {listed(names)}."
    if word == "over-forgotten":
        names = [n for n, s in sides.items() if (n in ("UA", "MIA") and s > 0) or (n == "TFA" and s < 0)]
        meaning = "the model is worse on the forget set than Retrain, which also reveals the forget set"
        return f"Over-forgotten, {meaning}: {listed(names)}."
    where = ", but not in forgetting" if alone else " in accuracy"
    return f"Different from Retrain{where}: {listed(list(sides))}."


def explained(
    words: Sequence[Word],
    figures: Figures,
    before: Figures,
    seeds: int,
    few: Sequence[str],
    *,
    strong: bool,
) -> list[str]:
    """Explain the words of the scores, and what the model before unlearning says of them.

    Args:
        words: The words.
        figures: The figures of the model.
        before: Those of the model before unlearning; empty if they are unknown.
        seeds: Number of retrained models.
        few: What `too_few` returned.
        strong: Whether the strong audit or the grounds add words.
    """
    alone = not strong and not few
    sentences = [word_sentence(w, figures, seeds, alone=alone, before=before) for w in words]
    sentences += [*few, *lacking_sentences(figures, before)]
    same = set(before) == set(figures) and not any(f["beyond"] for f in before.values())
    if before and same and list(words) == ["indistinguishable"] and not strong:
        sentences += nothing_to_do(before)
    return sentences


def lacking_before(figures: Figures, before: Figures) -> list[str]:
    """Return which of RA and TA are below Retrain's as they were before unlearning. The run did not cost this accuracy.

    The model before is beyond the allowed distance too, and the run took away no more than this distance from it.
    """
    return [
        n
        for n in ("RA", "TA")
        if n in before
        and side(figures, n) < 0
        and side(before, n) < 0
        and figures[n]["value"] >= before[n]["value"] - figures[n]["allowed"]
    ]


def lacking_sentences(figures: Figures, before: Figures) -> list[str]:
    """Return that accuracy was missing before the run too. Empty if none was."""
    names = lacking_before(figures, before)
    listed = ", ".join(
        f"{n} {before[n]['value']:.2f} before unlearning, {figures[n]['value']:.2f} after it, and {figures[n]['retrained']:.2f} of Retrain"
        for n in names
    )
    return (
        [
            f"The model before unlearning was as far below Retrain: {listed}. The run did not cost this accuracy."
        ]
        if names
        else []
    )


def too_few(figures: Figures, sizes: Mapping[str, int], of_one_model: Sequence[str]) -> list[str]:
    """Return that agreement with Retrain says nothing, and what would be needed. Empty if a forget score has the power.

    Args:
        figures: The figures of the model.
        sizes: Number of samples in each set; the forget set may be missing.
        of_one_model: Scores whose allowed distance is the sampling error.
    """
    names = [n for n in ("UA", "MIA") if n in figures]
    if not names or min(figures[n]["allowed"] for n in names) <= POWER:
        return []
    name = min(names, key=lambda n: float(figures[n]["allowed"]))
    count, allowed = sizes.get("forget", 0), figures[name]["allowed"]
    start = (
        f"That does not tell whether the model is indistinguishable from Retrain: a difference of up to {allowed:.1f} points in {name} "
        f"counts as chance"
    )
    if name not in of_one_model:
        return [f"{start}, because the retrained models differ so much. Give more retrained models."]
    needed = count + 1
    while sampling_error(figures[name]["retrained"], needed) > POWER:
        needed += 1
    return [
        f"{start}, with {count:,} forget sample{'' if count == 1 else 's'}. {needed:,} samples would bring that down to {POWER:g} points."
    ]


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
