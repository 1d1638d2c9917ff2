"""Turn the strong audit's figures into sentences, and into verdict words that the standard scores cannot give."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

Word = Literal[
    "indistinguishable",
    "under-forgotten",
    "over-forgotten",
    "utility lost",
    "different",
    "unknown",
    "no conclusion",
    "unchanged",
]
# A sentence, and the word that it adds to the verdict, if any.
Finding = tuple[str, Word | None]

BELOW_THE_HEAD = {
    "corrected_forgotten": "After one shift of its logits, the model recognises",
    "probe_forgotten": "A linear probe of the features recognises",
    "knn_forgotten": "Nearest neighbours in feature space recognise",
}
# A share below the head must differ from Retrain's by more points than this.
POINTS = 5.0
# Relearning in less than this share of Retrain's steps is residue. Retrain's own seeds differ by a factor of two.
SOONER = 0.5


def strong_findings(
    attacks: Mapping[str, Any], features: Mapping[str, Any], unseen: int, others: int
) -> tuple[list[str], list[Word]]:
    """Describe the strong audit's figures and choose the words that they add to the verdict.

    Args:
        attacks: The attacks of a `StrongResult`. Each may be missing.
        features: The features of a `StrongResult`. Each measure may be missing.
        unseen: Number of test samples of the forgotten classes.
        others: Number of test samples of the retained classes.

    Returns:
        Sentences, and verdict words without duplicates.
    """
    findings = [
        *_population_findings(attacks),
        *_probe_findings(features, unseen),
        *_correction_findings(features, unseen, others),
        *_relearning_findings(attacks.get("relearning delay") or {}),
        *_cka_findings(features.get("cka_original") or {}),
    ]
    words = [word for _, word in findings if word is not None]
    return [sentence for sentence, _ in findings], list(dict.fromkeys(words))


def _population_findings(attacks: Mapping[str, Any]) -> list[Finding]:
    findings: list[Finding] = []
    for name in ("U-LiRA", "RMIA"):
        figures = attacks.get(name) or {}
        if figures.get("auc") is None:
            continue
        excess = figures["auc"] - 0.5
        separates = abs(excess) > auc_noise(figures) and (excess > 0 or name == "RMIA")
        # U-LiRA separates in either direction, and the margins tell which; RMIA is high only for members
        residue = (figures.get("margin_shift") or 0.0) >= 0 if name == "U-LiRA" else excess > 0
        word: Word = "under-forgotten" if residue else "over-forgotten"
        companions = "".join(
            f"; {figures[key]:.3f} {text}"
            for key, text in (
                ("auc_null", "between two sets of retrained models"),
                ("auc_original", "without unlearning"),
            )
            if figures.get(key) is not None
        )
        verb = "separates" if separates else "does not separate"
        sentence = f"{name} {verb} unlearned from retrained models by single samples: AUC {figures['auc']:.3f}{companions}."
        findings.append((sentence, word if separates else None))
    return findings


def _probe_findings(features: Mapping[str, Any], unseen: int) -> list[Finding]:
    findings: list[Finding] = []
    for measure, text in BELOW_THE_HEAD.items():
        shares = features.get(measure) or {}
        if shares.get("unlearned") is None or shares.get("retrained") is None:
            continue
        sentence = (
            f"{text} {shares['unlearned']:.1f} % of the forgotten class's test samples; for the retrained model it is "
            f"{shares['retrained']:.1f} %."
        )
        if shares["unlearned"] - shares["retrained"] > max(POINTS, _share_error(shares, unseen)):
            findings.append((f"{sentence} Forgetting does not reach below the head.", "under-forgotten"))
        else:
            findings.append((sentence, None))
    return findings


def _correction_findings(features: Mapping[str, Any], unseen: int, others: int) -> list[Finding]:
    """Compare the mean of both accuracies after the bias correction.

    The shift trades one accuracy for the other, differently for each seed. Only their mean is stable.
    """
    both = [features.get(k) or {} for k in ("corrected_forgotten", "corrected_retained")]
    if any(shares.get(k) is None for shares in both for k in ("unlearned", "retrained")):
        return []
    unlearned, retrained = (sum(shares[k] for shares in both) / 2 for k in ("unlearned", "retrained"))
    errors = [_share_error(shares, size) for shares, size in zip(both, (unseen, others), strict=True)]
    sentence = (
        f"After this shift, the model still recognises {both[1]['unlearned']:.1f} % of the other classes' test samples; for "
        f"the retrained model it is {both[1]['retrained']:.1f} %. The means of both shares are {unlearned:.1f} % and "
        f"{retrained:.1f} %."
    )
    if retrained - unlearned > max(POINTS, math.hypot(*errors) / 2):
        meaning = "A model that never saw the class does not mix it with the others like this."
        return [(f"{sentence} {meaning}", "different")]
    return [(sentence, None)]


def _relearning_findings(relearning: Mapping[str, Any]) -> list[Finding]:
    delays = [relearning.get(k) or {} for k in ("sgd", "adam")]
    if any(d.get("delay") is None for d in delays):
        return []
    sentence = (
        f"Steps to relearn the forget set with SGD / Adam: {_steps(delays, 'steps')}; the retrained model needs "
        f"{_steps(delays, 'steps_retrained')}."
    )
    if all(d["delay"] < SOONER for d in delays):
        return [(f"{sentence} The model had not forgotten it.", "under-forgotten")]
    return [(sentence, None)]


def _cka_findings(cka: Mapping[str, Any]) -> list[Finding]:
    if (cka.get("unlearned") or 0) > 0.9999 > 0.999 > (cka.get("retrained") or 1):
        sentence = "The features are the original's: the method changed nothing below the head."
        return [(sentence, "under-forgotten")]
    return []


def _share_error(shares: Mapping[str, Any], size: int) -> float:
    return sampling_error((shares["unlearned"] + shares["retrained"]) / 2, size)


def sampling_error(percent: float, size: int) -> float:
    """Return how far two shares of the same number of samples may differ by chance, at 95 %.

    The share is first moved toward one half, by two samples of each kind, and half a sample is added: without both, shares near
    0 and 100 %, and those of few samples, would differ more often than in 5 % of cases.

    Args:
        percent: The approximate value of both shares, in percent.
        size: Number of samples behind each share.

    Returns:
        The largest difference by chance, in points.
    """
    size = max(size, 1)
    share = (min(max(percent / 100, 0.0), 1.0) * size + 2) / (size + 4)
    return 100 * (1.96 * math.sqrt(2 * share * (1 - share) / size) + 0.5 / size)


def _steps(delays: Sequence[Mapping[str, Any]], key: str) -> str:
    return " / ".join("not reached" if d[key] is None else str(d[key]) for d in delays)


def auc_noise(figures: Mapping[str, Any]) -> float:
    """Return how far from 0.5 an AUC may lie by chance.

    It is the largest of 0.02, the error of the mean over target models at 95 % (Student's t), and the distance of the attack's
    null from 0.5.

    Args:
        figures: "auc_null", "spread" and "shadows" of an attack. Each may be missing.

    Returns:
        The distance, 0.02 or more.
    """
    null = figures["auc_null"] if figures.get("auc_null") is not None else 0.5
    count, spread = figures.get("shadows") or 1, figures.get("spread") or 0.0
    error = 0.0
    if count > 1 and spread:
        from scipy.special import stdtrit

        error = float(stdtrit(count - 1, 0.975)) * spread / math.sqrt(count)
    return max(0.02, abs(null - 0.5), error)
