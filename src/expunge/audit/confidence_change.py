"""Whether a run treated its forget samples otherwise than other samples: differences in differences of confidence.

Other samples change too in a run: those that it trains on, and those that nobody trained on. So the change of confidence in the
forget samples is compared with the change in retained samples and in unseen (test) samples of the same classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import logit
from torch import Tensor

from .evaluation import Evaluation

# Largest probability that chance explains a difference where it counts.
SIGNIFICANCE = 0.01
# Points by which a difference must differ from 0 to count: a saturated model shows significant differences of no size.
LEAST = 0.1
# Random assignments of each permutation test. The smallest probability is 1 / (DRAWS + 1).
DRAWS = 499
# Samples of one class and set that a test uses at most, chosen at random. More of them cost time and add nothing.
MOST = 500
# Confidences nearer to 0 or 1 count as this far from them.
SMALLEST = 1e-6


@dataclass(frozen=True)
class Difference:
    """Hold how the forget samples differ from other samples of the same classes, on average.

    Args:
        points: Forget samples minus others, in percentage points.
        above: Probability that chance makes the difference of the mean log-odds at least as large (permutation test within
            each class). Means of the confidence itself hang on a few samples.
        below: Probability that chance makes it at most as large.
    """

    points: float
    above: float
    below: float

    @property
    def higher(self) -> bool:
        """Whether the forget samples are higher than the others, beyond chance."""
        return self.points >= LEAST and self.above <= SIGNIFICANCE

    @property
    def lower(self) -> bool:
        """Whether the forget samples are lower than the others, beyond chance."""
        return self.points <= -LEAST and self.below <= SIGNIFICANCE


@dataclass(frozen=True)
class ConfidenceChange:
    """Hold what a run did to the confidence in its forget samples, beside that in other samples of the same classes.

    Args:
        samples: Number of forget samples that were compared: those of classes that the retain set has.
        change: Mean change of the confidence in them, in percentage points.
        retained: Their change minus that of retained samples. None without retained samples of the same classes.
        unseen: Their change minus that of test samples. None without test samples of the same classes.
        before: Their confidence minus that in test samples before the run. None without such test samples.
        after: The same after the run.
    """

    samples: int
    change: float
    retained: Difference | None
    unseen: Difference | None
    before: Difference | None
    after: Difference | None

    @property
    def fell(self) -> bool:
        """Whether the confidence in the samples fell, and fell compared with retained or with unseen samples, beyond chance."""
        return self.change <= -LEAST and self.is_lower

    @property
    def is_lower(self) -> bool:
        """Whether it changed by less than in retained or in unseen samples, beyond chance."""
        return any(d is not None and d.lower for d in (self.retained, self.unseen))

    @property
    def rose(self) -> str:
        """That the run taught the samples, as a sentence. Empty if it did not, or if chance explains it.

        The confidence rose, and it rose more than in retained and more than in unseen samples.
        """
        pair = (self.retained, self.unseen)
        if self.change <= 0 or not all(d is not None and d.higher for d in pair):
            return ""
        return f"the run raised the confidence in its samples: {self._figures}, and chance explains neither (permutation test, 1 %)"

    @property
    def warning(self) -> str:
        """Why these figures do not show that the run forgot the samples, as a sentence. Empty if they show it."""
        if self.retained is None or self.unseen is None or self.fell:
            return ""
        if self.rose:
            return f"{self.rose}."
        if self.is_lower:
            return (
                f"The scores do not show that the run forgot the samples: {self._figures}. The confidence in the samples themselves did "
                "not fall; that in other samples rose more."
            )
        start = (
            f"The scores do not show that the run forgot the samples: {self._figures}, which chance explains."
        )
        if self.after is not None and self.after.higher:
            return (
                f"{start} Their confidence is still {self.after.points:.1f} points above that of unseen samples, which chance does "
                "not explain."
            )
        if self.before is not None and not self.before.higher:
            return f"{start} The samples did not stand out from unseen ones before the run either."
        return f"{start} After the run, the samples no longer stand out from unseen ones."

    @property
    def _figures(self) -> str:
        assert self.retained is not None and self.unseen is not None
        others = (self.change - d.points for d in (self.retained, self.unseen))
        retained, unseen = (f"{value:+z.1f}" for value in others)
        return (
            f"their confidence changed by {self.change:+z.1f} points on average, and by {retained} in retained and {unseen} in unseen "
            "samples of the same classes"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the figures for a record."""
        differences = {k: dict(vars(d)) for k, d in vars(self).items() if isinstance(d, Difference)}
        return {"samples": self.samples, "change": self.change, **differences}


def confidence_change(before: Evaluation, after: Evaluation, among: Tensor | None = None) -> ConfidenceChange:
    """Compare what a run did to the confidence in its forget samples with what it did to other samples.

    Args:
        before: The evaluation of the model before the run.
        after: That of the model after the run, on the same split.
        among: Which forget samples to look at, bool (N,). By default all.

    Returns:
        The change, with permutation tests within each class.

    Example:
        >>> confidence_change(original, unlearned).warning  # doctest: +SKIP
        ''
    """
    classes = after.split.forget.data.has_classes
    forget, retain = _Values.of(before.forget, after.forget), _Values.of(before.retain, after.retain)
    unseen = _Values.of(before.test, after.test).and_also(
        _Values.of(before.test_forgotten, after.test_forgotten)
    )
    if among is not None:
        forget = forget.take(among.cpu().numpy())
    if not classes:
        forget, retain, unseen = (v.without_classes() for v in (forget, retain, unseen))
    # a model without a class recognises none of its samples: there is nothing to compare with
    forget = forget.take(np.isin(forget.labels, retain.labels))
    change = 100 * float((forget.after - forget.before).mean()) if len(forget.labels) else 0.0
    (retained,) = _differences(forget, retain, ("change",))
    of_unseen = _differences(forget, unseen, ("change", "before", "after"))
    return ConfidenceChange(len(forget.labels), change, retained, *of_unseen)


@dataclass(frozen=True)
class _Values:
    """Confidences before and after a run, from 0 to 1 (N,), and labels (N,)."""

    before: np.ndarray
    after: np.ndarray
    labels: np.ndarray

    @classmethod
    def of(cls, before: Any, after: Any) -> _Values:
        one, two = (p.confidence.double().cpu().numpy() for p in (before, after))
        return cls(one, two, np.asarray(after.labels.cpu()))

    def percent(self, names: tuple[str, ...]) -> np.ndarray:
        """Return "before", "after" and "change" in percent (N, values)."""
        return 100 * _columns(names, self.before, self.after)

    def logits(self, names: tuple[str, ...]) -> np.ndarray:
        """Return the same as log-odds. A change from 98 to 99 % then counts like one from 50 to 67 %."""
        before, after = (logit(np.clip(v, SMALLEST, 1 - SMALLEST)) for v in (self.before, self.after))
        return _columns(names, before, after)

    def of_class(self, label: Any, draw: np.random.Generator) -> _Values:
        """Return the samples of a class, at most `MOST` of them."""
        chosen = np.flatnonzero(self.labels == label)
        return self.take(chosen if len(chosen) <= MOST else draw.choice(chosen, MOST, replace=False))

    def take(self, chosen: np.ndarray) -> _Values:
        return _Values(*(v[chosen] for v in vars(self).values()))

    def and_also(self, other: _Values) -> _Values:
        pairs = zip(vars(self).values(), vars(other).values(), strict=True)
        return _Values(*(np.concatenate(pair) for pair in pairs))

    def without_classes(self) -> _Values:
        return _Values(self.before, self.after, np.zeros(len(self.before), dtype=np.int64))


def _columns(names: tuple[str, ...], before: np.ndarray, after: np.ndarray) -> np.ndarray:
    values = {"before": before, "after": after, "change": after - before}
    return np.stack([values[name] for name in names], 1)


def _differences(forget: _Values, others: _Values, names: tuple[str, ...]) -> list[Difference | None]:
    """Return by how much the forget samples differ from others, weighted by the classes of the forget samples."""
    classes = [k for k in np.unique(forget.labels) if (others.labels == k).any()]
    if not classes:
        return [None] * len(names)
    draw = np.random.default_rng(0)
    pairs = [(forget.of_class(k, draw), others.of_class(k, draw)) for k in classes]
    total = sum(len(a.labels) for a, _ in pairs)
    points, found, by_chance = np.zeros(len(names)), np.zeros(len(names)), np.zeros((DRAWS, len(names)))
    for mine, theirs in pairs:
        weight, count = len(mine.labels) / total, len(mine.labels)
        points = points + weight * (mine.percent(names).mean(0) - theirs.percent(names).mean(0))
        pooled = np.concatenate([mine.logits(names), theirs.logits(names)])
        found = found + weight * (pooled[:count].mean(0) - pooled[count:].mean(0))
        by_chance = by_chance + weight * _permuted(pooled, count, draw)
    # rounding must not turn an equal value into a larger one
    above, below = (((by_chance - found) * side >= -1e-9).sum(0) for side in (1, -1))
    rows = zip(points, above, below, strict=True)
    return [Difference(float(p), *((int(n) + 1) / (DRAWS + 1) for n in counts)) for p, *counts in rows]


def _permuted(pooled: np.ndarray, count: int, draw: np.random.Generator) -> np.ndarray:
    """Return differences of means (DRAWS, values) where it is drawn which `count` rows of `pooled` come first."""
    order = draw.random((DRAWS, len(pooled)), dtype=np.float32)
    chosen = pooled[np.argpartition(order, count - 1, axis=1)[:, :count]].sum(1)
    return chosen / count - (pooled.sum(0) - chosen) / (len(pooled) - count)
