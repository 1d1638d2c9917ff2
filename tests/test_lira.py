"""Test LiRA, RMIA, the forgetting score and KLOM on distributions with known answers."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from expunge.audit import forgetting_score, klom, lira, populations, rmia
from expunge.errors import ExpungeError


def normal(models, samples, shift=0.0, seed=0):
    """Return margins (models, samples). Each sample has its own centre. All models have the deviation 1."""
    centre = np.random.default_rng(99).normal(0, 3, samples)
    return centre + shift + np.random.default_rng(seed).normal(0, 1, (models, samples))


# ---- margins


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**31), st.integers(2, 6), st.floats(0.1, 8))
def test_scaled_logit_equals_its_definition(seed, classes, scale):
    r = np.random.default_rng(seed)
    z, y = r.normal(0, scale, (3, 4, classes)), r.integers(0, classes, 4)
    p = np.exp(z) / np.exp(z).sum(-1, keepdims=True)
    values = lira.scaled_logit(z, y)
    for m in range(3):
        for i in range(4):
            others = sum(p[m, i, k] for k in range(classes) if k != y[i])
            assert values[m, i] == pytest.approx(math.log(p[m, i, y[i]]) - math.log(others))


def test_scaled_logit_does_not_overflow_or_cancel():
    z = torch.tensor([[1000.0, 0, 0], [-1000, 0, 0], [60, 0, -1e4]]).numpy()
    assert lira.scaled_logit(z, np.zeros(3, int)) == pytest.approx(
        [1000 - math.log(2), -1000 - math.log(2), 60]
    )


# ---- likelihood ratios


def test_likelihood_ratio_equals_that_of_gaussians():
    inside, outside = normal(200, 30, 2, 1), normal(200, 30, 0, 2)
    target = normal(1, 30, 1, 3)[0]
    values = lira.likelihood_ratio(target, inside, outside, pooled=False)
    deviation = lambda v: np.sqrt(((v - np.median(v, 0)) ** 2).mean(0))  # noqa: E731
    expected = norm.logpdf(target, np.median(inside, 0), deviation(inside)) - norm.logpdf(
        target, np.median(outside, 0), deviation(outside)
    )
    assert values == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("shift", [0.5, 1.0, 2.0, -1.0])
def test_u_lira_reaches_the_best_possible_auc(shift):
    """No test between N(c, 1) and N(c + d, 1) with known c has an AUC above Phi(|d| / sqrt(2))."""
    separation = lira.u_lira(normal(64, 300, shift, 1), normal(64, 300, 0, 2))
    assert separation.auc == pytest.approx(norm.cdf(abs(shift) / math.sqrt(2)), abs=0.015)
    best = 1 - norm.cdf(norm.ppf(0.99) - abs(shift))  # Neyman and Pearson
    assert separation.tpr_at_1 == pytest.approx(best, abs=0.02)


@pytest.mark.parametrize("models", [3, 4, 8, 9, 64, 66])
def test_u_lira_equals_the_slow_form_exactly(models):
    """The slow form leaves out each model in turn and computes the medians of the others again."""
    unlearned, retrained = (np.round(normal(models, 50, s, k), 1) for s, k in ((1.0, 1), (0.0, 2)))  # ties
    positive, negative = [], []
    for k in range(models):
        rest = np.arange(models) != k
        assert (lira.medians_without_each(unlearned)[k] == np.median(unlearned[rest], 0)).all()
        positive.append(lira.likelihood_ratio(unlearned[k], unlearned[rest], retrained[rest]))
        negative.append(lira.likelihood_ratio(retrained[k], unlearned[rest], retrained[rest]))
    assert lira.u_lira(unlearned, retrained) == populations.Separation.of(
        np.stack(positive), np.stack(negative)
    )
    one = lira.likelihood_ratio(unlearned[0], unlearned, retrained)[None]
    assert lira.lira_on_model(unlearned[0], unlearned, retrained) == populations.Separation.of(
        one, np.stack(negative)
    )


def test_u_lira_between_equal_populations_is_chance():
    aucs = [lira.u_lira(normal(8, 200, 0, 2 * k + 1), normal(8, 200, 0, 2 * k + 2)).auc for k in range(12)]
    assert np.mean(aucs) == pytest.approx(0.5, abs=0.01)
    separation = lira.u_lira(normal(32, 400, 0, 1), normal(32, 400, 0, 2))
    assert separation.tpr_at_1 == pytest.approx(0.01, abs=0.005) and separation.tpr_at_01 == pytest.approx(
        0.001, abs=0.002
    )


def test_rates_are_those_of_the_unlearned_population():
    """What is far above is found at any rate of false alarms; what is far below is not found at all."""
    above, below = (lira.u_lira(normal(8, 50, s, 1), normal(8, 50, 0, 2)) for s in (40.0, 0.0))
    assert above.auc == above.tpr_at_1 == above.tpr_at_01 == 1
    assert below.tpr_at_01 < 0.1
    ordered = populations.Separation.of(np.arange(10.0)[None], np.arange(5.0, 15.0)[None])
    assert (ordered.tpr_at_1, ordered.tpr_at_01) == (0, 0) and ordered.auc == pytest.approx(0.125)


def test_u_lira_sees_a_shift_that_averages_miss():
    """Half of the samples move up, half down. Means are equal, and so are the standard scores."""
    sign = np.where(np.arange(300) % 2, 1.5, -1.5)
    assert lira.u_lira(normal(32, 300, 0, 1) + sign, normal(32, 300, 0, 2)).auc > 0.8


def test_lira_on_one_model():
    unlearned, retrained = normal(32, 500, 1.5, 1), normal(32, 500, 0, 2)
    assert lira.lira_on_model(normal(1, 500, 1.5, 3)[0], unlearned, retrained).auc > 0.8
    assert lira.lira_on_model(normal(1, 500, 0, 3)[0], unlearned, retrained).auc == pytest.approx(
        0.5, abs=0.04
    )


def test_populations_are_refused_with_every_reason():
    with pytest.raises(ExpungeError) as caught:
        lira.u_lira(np.full((2, 4), np.nan), np.zeros((3, 4)))
    assert len(caught.value.problems) == 3


# ---- RMIA


def confidences(models, forget, test, shift, seed):
    sure = lambda n, s, k: 1 / (1 + np.exp(-normal(models, n, s, k)))  # noqa: E731
    return sure(forget, shift, seed), sure(test, 0.0, seed + 50)


def test_relative_ratio_equals_the_slow_form():
    r = np.random.default_rng(0)
    target, z, refs, around = r.random(5), r.random(40), r.random((3, 5)), r.random((3, 40))
    values = rmia.relative_ratio(target, z, refs, around, gamma=1.2, a=0.3)
    for i in range(5):
        mine = target[i] / (((1 + 0.3) * refs[:, i].mean() + 0.7) / 2)
        other = [z[j] / (((1 + 0.3) * around[:, j].mean() + 0.7) / 2) for j in range(40)]
        assert values[i] == pytest.approx(np.mean([mine / o >= 1.2 for o in other]))


def test_rmia_on_populations():
    same = rmia.rmia(confidences(16, 200, 400, 0, 1), confidences(16, 200, 400, 0, 2))
    far = rmia.rmia(confidences(16, 200, 400, 2, 1), confidences(16, 200, 400, 0, 2))
    assert same.auc == pytest.approx(0.5, abs=0.03)
    assert far.auc > 0.7


# ---- the challenge's score


def test_epsilon_by_hand():
    u, r = np.array([1.0, 2, 3, 4]), np.array([3.5, 5, 6, 7])
    # the threshold between 3 and 3.5 has one error rate of zero and is skipped; between 3.5 and 4 there is one error of each
    assert forgetting_score.epsilons(u[:, None], r[:, None])[0] == pytest.approx(math.log(3))
    assert forgetting_score.epsilons(np.zeros((4, 1)), np.ones((4, 1)))[0] == math.inf
    assert forgetting_score.epsilons(np.zeros((4, 1)), np.zeros((4, 1)))[0] == 0


def test_epsilon_uses_intervals_where_no_threshold_separates():
    u, r = np.array([[-2.0], [-1.9], [2.0], [2.1]]), np.array([[-0.1], [0.0], [0.1], [0.2]])
    assert forgetting_score.epsilons(u, r)[0] == math.inf


def test_epsilon_grows_with_distance_and_is_positive_without_one():
    """Error rates of one in 400 make the estimate noisy even for equal populations. This is why a null stands beside it."""
    one = forgetting_score.epsilons(normal(400, 10, 0, 1), normal(400, 10, 0, 2))
    far = forgetting_score.epsilons(normal(400, 10, 1.5, 1), normal(400, 10, 0, 2))
    assert 0 < np.median(one) < 3.5 and np.median(far) > np.median(one) + 1


def test_the_final_score():
    good = forgetting_score.forgetting_score(
        np.zeros((4, 3)), np.zeros((4, 3)), retain_accuracy=(0.9, 1), test_accuracy=(0.8, 1)
    )
    assert good.forgetting == 1 and good.final == pytest.approx(0.72) and good.separated == 0
    bad = forgetting_score.forgetting_score(np.zeros((4, 3)), np.ones((4, 3)))
    assert bad.forgetting == 2 / 2**13 and bad.separated == 1 and bad.epsilon_median is None


# ---- KLOM


def test_klom_by_hand_and_between_equal_and_far_populations():
    r, u = np.array([[0.0], [0.0], [1.0], [1.0]]), np.array([[0.0], [1.0], [1.0], [1.0]])
    p, q = np.array([2.5, 2.5]) / 5, np.array([1.5, 3.5]) / 5
    assert klom.klom(r, u, bins=2)[0] == pytest.approx((p * np.log(p / q)).sum())
    same, far = (
        klom.klom(normal(300, 40, 0, 1), normal(300, 40, 0, 2)),
        klom.klom(normal(300, 40, 0, 1), normal(300, 40, 2, 2)),
    )
    assert same.mean() < 0.15 and far.mean() == pytest.approx(2, rel=0.4)  # KL of unit Gaussians 2 apart is 2
    assert (klom.klom(r, r) == 0).all()
    with pytest.raises(ExpungeError, match="same samples"):
        klom.klom(np.zeros((3, 2)), np.zeros((3, 4)))


def literal_bench(p, q, drop_last, renormalise):
    """KL of two lists of margins as the released code writes it, bin by bin."""
    p, q = np.clip(p, -100, 100), np.clip(q, -100, 100)
    low, high = min(p.min(), q.min()), max(p.max(), q.max())
    edges = np.linspace(low, high if high > low else low + 1, 21)

    def shares(values):
        at = np.digitize(values, edges)
        counts = np.array([(at == k).sum() for k in range(1, 21)], dtype=float)
        counts[-1] += 0 if drop_last else (at == 21).sum()
        return counts / counts.sum()

    p, q = shares(p), shares(q)
    q = np.where(p > 0, np.maximum(q, 1e-5), q)
    q = q / q.sum() if renormalise else q
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True) if a > 0)


@pytest.mark.parametrize("shift", [0.0, 1.0, 30.0])
def test_klom_of_the_bench_equals_its_literal_form(shift):
    r, u = normal(60, 25, 0, 1), normal(60, 25, shift, 2)
    r[:5, 3] = 400.0
    expected = {
        "repaired": [literal_bench(u[:, i], r[:, i], False, True) for i in range(25)],
        "data-unlearning-bench": [literal_bench(r[:, i], u[:, i], True, True) for i in range(25)],
        "easydub": [literal_bench(u[:, i], r[:, i], True, False) for i in range(25)],
    }
    assert set(expected) == set(klom.FORMS)
    for form, values in expected.items():
        assert klom.bench_klom(r, u, form) == pytest.approx(values, rel=1e-9, abs=1e-12)


def test_klom_of_the_bench_by_hand():
    r, u = np.zeros((4, 1)), np.ones((4, 1))
    assert klom.bench_klom(r, u)[0] == pytest.approx(math.log((1 + 1e-5) / 1e-5))  # no bin in common: the cap
    assert klom.bench_klom(r, r)[0] == 0
    # the largest margin is in the last bin; the released forms lose it, here a whole population
    assert klom.bench_klom(r, u, "easydub")[0] == 0
    mixed = np.array([[0.0], [0.0], [0.0], [1.0]])
    assert klom.bench_klom(r, mixed)[0] == pytest.approx(
        0.75 * math.log(0.75 / (1 / (1 + 1e-5))) + 0.25 * math.log(0.25 / (1e-5 / (1 + 1e-5)))
    )
    # exchanged arguments are another number
    assert klom.bench_klom(mixed, r)[0] == pytest.approx(math.log(4 / 3))


def test_klom_of_the_bench_refuses_what_it_cannot_use():
    with pytest.raises(ExpungeError, match="no form 'x' of KLOM; the forms are repaired, data-unlearning"):
        klom.bench_klom(np.zeros((2, 1)), np.zeros((2, 1)), "x")
    with pytest.raises(ExpungeError, match=r"(?s)2 of the retrained margins are NaN.*1 of the unlearned"):
        klom.bench_klom(np.array([[np.nan], [np.nan]]), np.array([[np.nan], [0.0]]))
