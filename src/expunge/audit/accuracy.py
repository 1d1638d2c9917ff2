"""UA, RA, TA and MIA of a model on a split, beside those of Retrain; and what the report draws of them.

UA = 100 - accuracy on the forget set, RA and TA the accuracies on retain and test set (class-wise: the test set without
the forgotten classes), MIA = share of the forget set that the attack calls non-member, all in percent and all without
augmentation; avg. gap = mean of |score - Retrain's score| over the four (SalUn, arXiv:2310.12508, section 6). No score
is good by itself: a model retrained without the data has a UA near its test error, not near 100.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import nn

from ..data.split import Split
from ..errors import ExpungeError
from ..records.statistics import HEADLINE
from ..tasks.classification import Classification, Predictions
from ..torch_utils.module_state import check_seed, device_of
from ..training.run import Compute, precision
from .mia import members_and_nonmembers, modified_entropy, svm_attack, threshold_attack
from .pictures import embeddings, examples

BINS = 20

Scores: TypeAlias = dict[str, Any]


@dataclass(eq=False)
class Judged:
    """A model's predictions on every set of a split, taken once, and the scores that follow from them."""

    split: Split
    forget: Predictions
    retain: Predictions
    test: Predictions
    test_forgotten: Predictions
    seed: int = 0

    @cached_property
    def scores(self) -> Scores:
        """UA, RA, TA, MIA, MIA_entropy, and TFA (accuracy on the forgotten classes' test samples, None without them)."""
        found: Scores = {
            "UA": 100 - self.forget.accuracy,
            "RA": self.retain.accuracy,
            "TA": self.test.accuracy,
        }
        member, nonmember = members_and_nonmembers(
            len(self.retain.labels), len(self.test.labels), seed=self.seed
        )
        sure = [p.confidence.numpy() for p in (self.retain, self.test, self.forget)]
        found["MIA"] = svm_attack(sure[0][member], sure[1][nonmember], sure[2])
        # low entropy speaks for a member: the threshold attack wants scores that are high for members
        low = [
            -modified_entropy(p.probabilities.numpy(), p.labels.numpy())
            for p in (self.retain, self.test, self.forget)
        ]
        found["MIA_entropy"] = threshold_attack(low[0][member], low[1][nonmember], low[2])
        found["TFA"] = self.test_forgotten.accuracy if len(self.test_forgotten.labels) else None
        return found

    @property
    def per_class(self) -> list[float | None]:
        """Test accuracy (percent) of every class, the forgotten ones included; None for classes without test samples."""
        labels = torch.cat([self.test.labels, self.test_forgotten.labels])
        right = torch.cat([self.test.correct, self.test_forgotten.correct]).double()
        return [
            100 * right[labels == k].mean().item() if (labels == k).any() else None
            for k in range(self.test.logits.shape[1])
        ]

    @property
    def redistribution(self) -> list[float]:
        """Share of the forget samples that the model puts into each class."""
        return self.forget.shares.tolist()

    def histogram(self) -> dict[str, list[int]]:
        """Counts of true-class confidence in equal bins from 0 to 1, for forget, retain and test samples."""
        return {
            n: np.histogram(p.confidence.numpy(), BINS, (0, 1))[0].tolist()
            for n, p in (("forget", self.forget), ("retain", self.retain), ("test", self.test))
        }


def judge(
    model: nn.Module,
    split: Split,
    task: Classification,
    *,
    seed: int = 0,
    batch_size: int = 256,
    compute: Compute | None = None,
) -> Judged:
    """One pass over every set of the split, in full precision unless `compute` says otherwise."""
    check_seed(seed)
    features = task.has_head(model, split.retain)
    look = lambda s: task.predict(model, s, features=features, batch_size=batch_size)  # noqa: E731
    with precision(compute or Compute(), device_of(model)):
        forget, retain = look(split.forget), look(split.retain)
        test, gone = look(split.test), look(split.test_forgotten)
    return Judged(split, forget, retain, test, gone, seed)


@dataclass(frozen=True)
class AuditResult:
    """What an audit found: `scores` (percent; with "gap" where Retrain was given), what the report draws, and `limits`,
    sentences on what could not be said."""

    scores: Scores
    details: dict[str, Any] = field(default_factory=dict)
    limits: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        shown = [f"{k} {v:.2f}" for k, v in self.scores.items() if isinstance(v, float)]
        gap = self.scores.get("gap")
        return ", ".join(shown) + (
            f"; avg. gap to Retrain {gap['avg']:.2f}" if gap else "; no gap: no retrained model was given"
        )


def gaps(scores: Scores, reference: Scores) -> dict[str, float]:
    """|score - Retrain's score| of the four headline scores, and their mean as "avg" (points)."""
    found = {k: abs(scores[k] - reference[k]) for k in HEADLINE}
    return {**found, "avg": sum(found.values()) / len(found)}


APART = 50.0  # points between two attacks on one model that cannot both be right


def contradicted(scores: Mapping[str, Any]) -> bool:
    """Whether the two membership attacks on a model contradict each other, so that its MIA is no finding."""
    both = [scores.get(k) for k in ("MIA", "MIA_entropy")]
    return all(v is not None for v in both) and abs(both[0] - both[1]) > APART  # type: ignore[operator]


def summarize(
    judged: Judged, *, original: Judged | None = None, retrained: Judged | None = None
) -> AuditResult:
    """The audit of predictions already taken; `audit` takes them for you."""
    split, models = judged.split, {"original": original, "unlearned": judged, "retrained": retrained}
    given = {k: m for k, m in models.items() if m is not None}
    scores, limits = dict(judged.scores), []
    if retrained is not None:
        scores["gap"] = gaps(scores, retrained.scores)
    else:
        limits.append(
            "No retrained model was given: how close this is to never having seen the data cannot be said, and no score "
            "is good or bad by itself."
        )
    if original is None:
        limits.append("No original model was given: what unlearning cost in accuracy cannot be said.")
    if not len(split.test_forgotten) and split.forget_classes:
        limits.append(
            "The test set has no samples of the forgotten class: whether unseen ones are recognised cannot be said."
        )
    whose = {"unlearned": "", "original": " of the original", "retrained": " of the retrained model"}
    limits += [
        f"MIA ({m.scores['MIA']:.0f}) and the threshold attack MIA_entropy ({m.scores['MIA_entropy']:.0f}){whose[name]} contradict "
        "each other: its forget samples lie outside the confidences that the machine behind MIA was fitted on, and what MIA says "
        "there is no finding."
        for name, m in given.items()
        if contradicted(m.scores)
    ]
    details: dict[str, Any] = {
        "histograms": {
            "bins": np.linspace(0, 1, BINS + 1).round(4).tolist(),
            **{k: m.histogram() for k, m in given.items()},
        },
        "per_class": {k: m.per_class for k, m in given.items()},
        "redistribution": {k: m.redistribution for k, m in given.items()},
        "examples": examples(given),
    }
    if judged.forget.features is not None:
        details["embedding"] = embeddings(given)
    if original is not None:
        details["worst_class"] = worst_class(original.per_class, judged.per_class, split.forget_classes)
    return AuditResult(scores, details, limits)


def check_references(split: Split, *judged: Judged | None) -> None:
    """Raise `ExpungeError` if one of these was judged on another split: a gap to it would say nothing."""
    if any(j is not None and j.split.hash != split.hash for j in judged):
        raise ExpungeError("a model judged on another split was given as reference; judge it on this split.")


def audit(
    model: nn.Module,
    split: Split,
    task: Classification,
    *,
    original: nn.Module | Judged | None = None,
    retrained: nn.Module | Judged | None = None,
    seed: int = 0,
    compute: Compute | None = None,
) -> AuditResult:
    """How well `model` unlearned the split's forget set, beside the original and the retrained model where given.

    In full precision, unless `compute` asks for less: scores then carry its rounding. Raises `ModelError` with all
    problems if a model does not fit the split.
    """

    def judged(which: nn.Module | Judged | None) -> Judged | None:
        if which is None or isinstance(which, Judged):
            check_references(split, which)
            return which
        task.check(which, split.retain)
        return judge(which, split, task, seed=seed, compute=compute)

    own = judged(model)
    assert own is not None
    return summarize(own, original=judged(original), retrained=judged(retrained))


def worst_class(
    before: Sequence[float | None], after: Sequence[float | None], forgotten: Sequence[int]
) -> dict[str, Any] | None:
    """The retained class whose figure (one a class, None where there is none) fell most: {"class", "drop" in points}."""
    drops = {
        k: b - a
        for k, (b, a) in enumerate(zip(before, after, strict=True))
        if a is not None and b is not None and k not in forgotten
    }
    return (
        None if not drops else {"class": (worst := max(drops, key=lambda k: drops[k])), "drop": drops[worst]}
    )
