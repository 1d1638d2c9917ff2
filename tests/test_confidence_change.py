"""Whether a run treated its forget samples otherwise than other samples of the same classes."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from expunge.audit.confidence_change import confidence_change
from expunge.projects.effect import _taught


def evaluation(forget, retain, unseen, labels=None, classes=True):
    """An evaluation with these confidences; labels are 0 and 1 in turn where none are given."""

    def scores(values, y):
        return SimpleNamespace(confidence=values, labels=y)

    sets = SimpleNamespace(forget=SimpleNamespace(data=SimpleNamespace(has_classes=classes)))
    y = [torch.arange(len(v)) % 2 for v in (forget, retain, unseen)] if labels is None else labels
    forget, retain, test = (scores(v, k) for v, k in zip((forget, retain, unseen), y, strict=True))
    none = scores(unseen[:0], y[2][:0])
    return SimpleNamespace(split=sets, forget=forget, retain=retain, test=test, test_forgotten=none)


def logits(count, mean, seed):
    return torch.randn(count, generator=torch.Generator().manual_seed(seed)).double() + mean


def run(forget, retain, unseen, *, start=0.0, **options):
    """Log-odds that change by these amounts, with some noise; the forget samples start `start` above the others."""
    counts, changes = (20, 200, 200), (forget, retain, unseen)
    before = [logits(n, start if at == 0 else 0.0, at) for at, n in enumerate(counts)]
    after = [
        b + c + 0.3 * logits(len(b), 0.0, 10 + at)
        for at, (b, c) in enumerate(zip(before, changes, strict=True))
    ]
    return confidence_change(
        *(evaluation(*(v.sigmoid() for v in values), **options) for values in (before, after))
    )


@pytest.mark.parametrize("classes", [True, False])
def test_a_run_that_lowers_its_samples_more_than_others_shows_it(classes):
    change = run(-1.0, 0.5, 0.3, classes=classes)
    assert change.fell and not change.rose and change.warning == ""
    assert change.samples == 20 and change.change < 0 and change.retained.below <= 0.01


def test_a_rise_that_is_smaller_than_that_of_others_shows_nothing():
    """Before, it counted as forgetting: the confidence in the samples rose, and that in others rose more."""
    change = run(0.5, 1.5, 1.5)
    assert change.change > 0 and change.retained.lower and not change.fell
    assert change.warning.endswith(
        "The confidence in the samples themselves did not fall; that in other samples rose more."
    )
    # with next to no change of their own, and with a fall of their own
    assert not run(0.1, 1.5, 1.5).fell and run(-0.5, 1.5, 1.5).fell


def test_a_rise_that_others_share_is_no_sign_of_teaching():
    """The negative control of the rule: retained and unseen samples gain as much."""
    change = run(1.0, 1.0, 1.0)
    assert change.change > 5 and not change.rose and not change.fell
    assert change.warning.startswith("The scores do not show that the run forgot the samples")
    assert "did not stand out from unseen ones before the run either" in change.warning


def test_a_run_that_teaches_its_samples_is_found():
    change = run(1.5, 0.2, 0.2)
    assert (
        "the run raised the confidence in its samples" in change.rose and change.warning == f"{change.rose}."
    )
    # more than retained samples alone is not enough: unseen ones gained as much
    assert not run(1.5, 0.2, 1.5).rose
    part = SimpleNamespace(retrained=None, confidence=change)
    assert _taught(part) == change.rose
    assert _taught(SimpleNamespace(retrained=object(), confidence=change)) == "", "a reference says more"


def test_samples_that_still_stand_out_are_named():
    change = run(0.5, 0.5, 0.5, start=3.0)
    assert change.before.higher and change.after.higher
    assert "points above that of unseen samples" in change.warning


def test_classes_without_retained_samples_are_left_out():
    half = torch.full((10,), 0.5).double()
    labels = [torch.tensor([3] * 10), torch.tensor([1] * 10), torch.tensor([3] * 10)]
    change = confidence_change(
        evaluation(half, half, half, labels), evaluation(half / 9, half, half / 9, labels)
    )
    assert change.samples == 0 and change.warning == "" and not change.fell


def test_the_difference_is_that_of_the_means_and_its_probability_that_of_the_permutations():
    """Two of six values in one class: the two smallest ones come first in one of 15 choices."""
    before = [torch.full((n,), 0.5).double() for n in (2, 4, 4)]
    after = [torch.tensor(v).double() for v in ([0.1, 0.2], [0.3, 0.4, 0.5, 0.6], [0.3, 0.4, 0.5, 0.6])]
    labels = [torch.zeros(n, dtype=torch.int64) for n in (2, 4, 4)]
    change = confidence_change(evaluation(*before, labels), evaluation(*after, labels))
    assert change.change == pytest.approx(-35) and change.retained.points == pytest.approx(-30)
    assert change.retained.below == pytest.approx(1 / 15, abs=0.03) and change.retained.above == 1
    assert not change.fell, "chance explains it at 1 %"
    some = change.to_dict()
    assert some["unseen"]["points"] == pytest.approx(-30) and np.isfinite(some["after"]["above"])
    # which samples are looked at
    one = confidence_change(
        evaluation(*before, labels), evaluation(*after, labels), torch.tensor([True, False])
    )
    assert one.samples == 1 and one.change == pytest.approx(-40)
