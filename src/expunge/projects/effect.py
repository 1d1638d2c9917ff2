"""Whether a run answered a request: what it changed on the samples, and what the model still knows of them.

A run that forgets nothing answers no request. It is measured whether the run lowered the confidence in the samples,
whether they still stand out from unseen samples, whether they are still recognised where a retrained model could not do
so, and whether the model became worse on test samples.
"""

from __future__ import annotations

import math

import torch
from scipy.special import bdtrc
from torch import Tensor

from ..audit.earlier_requests import TOLERANCE
from ..audit.evaluation import Evaluation
from ..pipeline.outcome import Outcome
from .entries import LARGEST_LOSS
from .parts import Part

# Points by which a run must change the confidence in a sample, on average. A real run changes it by more.
LEAST_CHANGE = 0.1
# Largest probability that a run which costs nothing makes as many test samples wrong.
LOST_BY_CHANCE = 0.025
# Probability that samples stand out from unseen ones by chance.
SIGNIFICANCE = 0.01


def run_failure(outcome: Outcome, original: Outcome) -> str:
    """Return why a run answers none of its requests: it diverged, changed nothing or did harm. Else empty."""
    record = outcome.record
    if record.ended in ("diverged", "unchanged", "worse"):
        return record.status
    if record.model.get("hash_before") == record.model.get("hash_after"):
        return "the run ended with the model that it began with"
    return ""


def failure(part: Part, *, exact: bool, max_loss: float = LARGEST_LOSS) -> str:
    """Return why a run does not answer one of its requests, as a sentence. Empty if it does.

    Args:
        part: The request.
        exact: Whether the method trains a new model without the samples. Then only the loss of accuracy is measured.
        max_loss: Points of test accuracy that the run may cost.
    """
    if harm := _lost_accuracy(part, max_loss):
        return harm
    if exact and part.split.goal != "unlearn":
        return ""
    if part.split.goal == "unlearn":
        return _still_recognised(part)
    return _unmoved(part) or _class_remembered(part) or _taught(part) or _still_remembered(part)


def _lost_accuracy(part: Part, max_loss: float = LARGEST_LOSS) -> str:
    """Return that the run cost accuracy on the test samples that both models were evaluated on. They are the same samples."""
    if (both := test_accuracies(part.original, part.own)) is None:
        return ""
    before, after, counted = both
    change = (part.original.test.correct.double() - part.own.test.correct.double())[counted]
    loss, worse = before - after, int((change > 0).sum())
    # of the samples that changed, as many became wrong by chance (sign test)
    chance = bdtrc(worse - 1, int((change != 0).sum()), 0.5)
    if loss <= max_loss or chance > LOST_BY_CHANCE or _reference_lost(part, loss, max_loss):
        return ""
    others = "" if counted.all() else f" on the {len(change):,} test samples of classes with retained samples"
    return (
        f"the run cost {apart(loss, max_loss)} points of test accuracy{others}, from {before:.1f} % to {after:.1f} %; at most {max_loss:g} "
        "points are allowed (max_loss)"
    )


def test_accuracies(original: Evaluation, own: Evaluation) -> tuple[float, float, Tensor] | None:
    """Return the test accuracies by which a run is judged. None if the two models were not evaluated on the same samples.

    Test samples of classes without retained samples do not count, unless there are no others: a retrained model recognises none
    of them, so a run that forgets such a class must lose them.

    Args:
        original: The model before the run.
        own: The unlearned model.

    Returns:
        Accuracy before and after the run, in percent, and which test samples count, bool (M,).
    """
    if not len(own.test.correct) or len(own.test.correct) != len(original.test.correct):
        return None
    counted = torch.ones(len(own.test.correct), dtype=torch.bool)
    if own.split.forget.data.has_classes:
        known = torch.isin(own.test.labels, _known_classes(own))
        counted = known if known.any() else counted
    before, after = (100 * e.test.correct[counted].double().mean().item() for e in (original, own))
    return before, after, counted


def accuracies_of(original: Outcome, own: Outcome) -> tuple[float, float, Tensor] | None:
    """Return `test_accuracies` of two outcomes. None if their task has no scores, or a run ended before its evaluation."""
    before, after = original.evaluation, own.evaluation
    if not isinstance(before, Evaluation) or not isinstance(after, Evaluation):
        return None
    return test_accuracies(before, after)


def _known_classes(evaluation: Evaluation) -> Tensor:
    """Return labels of the samples that a model may know: retained ones, and withheld ones, as their requests wait."""
    return torch.cat([evaluation.retain.labels, evaluation.split.withheld.labels])


def _reference_lost(part: Part, loss: float, max_loss: float) -> bool:
    """Whether the reference lost as much, up to the allowed loss: then the samples were needed for the accuracy."""
    both = None if part.retrained is None else test_accuracies(part.original, part.retrained)
    return both is not None and loss - (both[0] - both[1]) <= max_loss


def apart(value: float, limit: float, digits: int = 1) -> str:
    """Return a value with as many digits after the point as show that it is not a limit, at least `digits` and at most 6.

    Example:
        >>> apart(20.04, 20.0), apart(30.0, 20.0)
        ('20.04', '30.0')
    """
    while digits < 6 and f"{value:.{digits}f}" == f"{limit:.{digits}f}" and value != limit:
        digits += 1
    return f"{value:.{digits}f}"


def _still_recognised(part: Part) -> str:
    known, before = (100 - float(e.scores["UA"]) for e in (part.own, part.original))
    # the goal is that the class is not recognised at all; a run that took away less than half did not do the work
    if known <= max(TOLERANCE, before / 2):
        return ""
    return f"the model still recognises {known:.1f} % of the samples that were to be unlearned, and {before:.1f} % before the run"


def _unmoved(part: Part) -> str:
    """Return that the run left the confidence in its samples as it was. It compares the same samples."""
    fresh = part.fresh
    if not fresh.any():
        # earlier requests removed all of them
        return ""
    moved = 100 * (part.own.forget.confidence - part.original.forget.confidence)[fresh].double()
    if moved.abs().mean().item() < LEAST_CHANGE:
        return (
            f"the run changed the confidence in its samples by {moved.abs().mean().item():.3f} points on average, and less than "
            f"{LEAST_CHANGE:g} counts as nothing"
        )
    return ""


def _class_remembered(part: Part) -> str:
    """Return that samples of classes without retained samples are still recognised: a retrained model cannot do that."""
    forget = part.own.forget
    if not part.own.split.forget.data.has_classes:
        return ""
    alone = ~torch.isin(forget.labels, _known_classes(part.own))
    if not alone.any():
        return ""
    known, before = (100 * e.forget.correct[alone].double().mean().item() for e in (part.own, part.original))
    if known <= max(TOLERANCE, before / 2):
        return ""
    return (
        f"no sample is retained of the classes of {int(alone.sum())} samples, so a retrained model would recognise none of them; the "
        f"model still recognises {known:.1f} %, and {before:.1f} % before the run"
    )


def _taught(part: Part) -> str:
    """Return that the run raised the confidence in its samples, beyond what other samples gained. A reference says more."""
    return "" if part.retrained is not None or part.confidence is None else part.confidence.rose


def _still_remembered(part: Part) -> str:
    if part.retrained is not None:
        # the gap and the verdict say more, and the ledger has limits for them
        return ""
    kind = "comparable reference" if part.grounds.reference else "reference"
    start = "the model still tells its samples from unseen ones: their confidence is"
    if text := _still_higher(part):
        return f"{start} {text} without a {kind}"
    before, after = remembered(part.original), remembered(part.own)
    if after <= before / 2:
        return ""
    return (
        f"{start} {apart(after, before / 2, 2)} higher than chance explains (Kolmogorov-Smirnov distance), and {before:.2f} before the "
        f"run; at most half of that, {apart(before / 2, after, 2)}, is allowed without a {kind}"
    )


def _still_higher(part: Part) -> str:
    """Return how far the mean confidence is above that in unseen samples, if before and after the run by more than chance explains.

    Means of many samples show what the distance of two distributions does not.
    """
    change = part.confidence
    if change is None or change.before is None or change.after is None:
        return ""
    before, after = change.before, change.after
    if not before.higher or not after.higher:
        return ""
    half = before.points / 2
    if after.points <= half and change.is_lower:
        return ""
    limit = (
        f"at most half of that, {apart(half, after.points)}, is allowed"
        if after.points > half
        else "other samples changed as much, so the run did not lower it by more than chance explains, which is needed"
    )
    return (
        f"{apart(after.points, half)} percentage points above that of unseen samples of the same classes, and {before.points:.1f} before "
        f"the run, and chance explains neither (permutation test, 1 %); {limit}"
    )


def remembered(evaluation: Evaluation) -> float:
    """Return how far the confidences on the forget set lie above those on unseen samples of the same classes, from 0 to 1.

    It is the one-sided Kolmogorov-Smirnov distance minus its critical value at 1 %. Unseen are the test samples. They are
    weighted to have the classes of the forget set. Classes without test samples are left out.
    """
    forget, unseen = evaluation.forget, (evaluation.test, evaluation.test_forgotten)
    values, others = forget.confidence.double(), torch.cat([p.confidence.double() for p in unseen])
    weights = torch.ones(len(others), dtype=torch.float64)
    if evaluation.split.forget.data.has_classes:
        labels = torch.cat([p.labels for p in unseen])
        values = values[torch.isin(forget.labels, labels)]
        wanted = torch.bincount(forget.labels, minlength=int(labels.max()) + 1 if len(labels) else 1)
        weights = wanted[labels].double() / torch.bincount(labels, minlength=len(wanted))[labels]
    others, weights = others[weights > 0], weights[weights > 0]
    if not len(values) or not len(others):
        return 0.0
    effective = float(weights.sum() ** 2 / weights.square().sum())
    critical = math.sqrt(-math.log(SIGNIFICANCE) / 2 * (len(values) + effective) / (len(values) * effective))
    return max(0.0, _above(values, others, weights) - critical)


def _above(values: Tensor, others: Tensor, weights: Tensor) -> float:
    """Return the largest difference of the distribution function of weighted `others` (M,) above that of `values` (N,)."""
    order = others.argsort()
    cumulative = torch.cat([torch.zeros(1, dtype=torch.float64), weights[order].cumsum(0)])
    points = torch.cat([values, others])
    share = torch.searchsorted(values.sort().values, points, right=True) / len(values)
    other_share = cumulative[torch.searchsorted(others[order], points, right=True)] / cumulative[-1]
    return float((other_share - share).max())
