"""Test the attacks on scores with known answers, and the SVM against scikit-learn's."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score
from sklearn.svm import SVC

from expunge import ExpungeError
from expunge.audit.mia import members_and_nonmembers, modified_entropy, svm_attack, threshold_attack
from expunge.audit.roc import auc, tpr_at_fpr
from expunge.audit.svm1d import WIDEST, KernelFeatures, LibSvm, OneDimensionalSvm, fit_svm
from generators import same_in_any_order

RNG = np.random.default_rng(0)
same_numbers = same_in_any_order(RNG)


CASES = {
    "memorised": lambda n: (1 - RNG.beta(0.2, 20, n), 1 - RNG.beta(0.3, 3, n)),
    "uniform": lambda n: (RNG.random(n), RNG.random(n)),
    "separated": lambda n: (RNG.beta(20, 2, n), RNG.beta(2, 20, n)),
    "ties": lambda n: (np.round(RNG.beta(5, 1, n), 1), np.round(RNG.beta(3, 1, n), 1)),
    "logistic": lambda n: (1 / (1 + np.exp(-RNG.normal(8, 3, n))), 1 / (1 + np.exp(-RNG.normal(5, 4, n)))),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(("members", "nonmembers"), [(15, 15), (400, 400), (300, 60), (40, 700)])
def test_svm_equals_scikit_learn(case, members, nonmembers):
    a, b = CASES[case](max(members, nonmembers))
    a, b = a[:members], b[:nonmembers]
    ours = fit_svm(a, b, 0.0, 1.0, 3.0, 1.0)
    theirs = SVC(C=3, gamma="auto", tol=1e-5).fit(
        np.r_[a, b][:, None], np.repeat([1, 0], [members, nonmembers])
    )
    grid = np.linspace(0, 1, 501)
    want = theirs.decision_function(grid[:, None])
    between = (grid >= min(a.min(), b.min())) & (grid <= max(a.max(), b.max()))
    assert np.abs(ours.decide(grid) - want)[between].max() < 0.02
    sure = np.abs(want) > 0.02
    assert (np.sign(ours.decide(grid)) == np.sign(want))[sure].all()
    agree = abs(svm_attack(a, b, a) - svm_attack(a, b, a, solver="sklearn"))
    assert agree <= 1.0 or case == "uniform"


def test_svm_is_the_optimum_of_its_objective():
    """A small change of the bias or of the weights does not lower the primal objective."""
    a, b = CASES["memorised"](300)
    svm = fit_svm(a, b, 0.0, 1.0, 3.0, 1.0)
    phi, y, w = svm.features(np.r_[a, b]), np.repeat([1.0, -1.0], 300), svm.weight

    def primal(weight, bias):
        return 0.5 * weight @ weight + 3 * np.maximum(0, 1 - y * (phi @ weight + bias)).sum()

    least = primal(w, svm.bias)
    for change in (0.01, -0.01):
        assert primal(w, svm.bias + change) >= least - 1e-4
        assert primal(w * (1 + change), svm.bias) >= least - 1e-4


def test_scikit_learn_solves_kernels_that_are_too_narrow_to_interpolate():
    a, b = RNG.beta(5, 2, 80), RNG.beta(3, 2, 80)
    assert isinstance(fit_svm(a, b, 0.0, 1.0, 3.0, WIDEST), OneDimensionalSvm)
    assert isinstance(fit_svm(a, b, 0.0, 1.0, 3.0, WIDEST * 1.01), LibSvm)
    ways = [svm_attack(a, b, a, gamma=300.0, solver=s) for s in ("one_dimensional", "sklearn")]
    assert ways[0] == ways[1]


def test_features_equal_the_kernel_up_to_the_limit():
    x = RNG.random(60)
    phi = KernelFeatures.fit(0.0, 1.0, WIDEST)(x)
    assert np.abs(phi @ phi.T - np.exp(-WIDEST * (x[:, None] - x) ** 2)).max() < 1e-13
    assert KernelFeatures.fit(0.0, 1.0, 1.0).root.shape[1] == 11  # the rank in docs/audit.md


def test_features_equal_the_kernel():
    x = np.linspace(0, 1, 41)
    phi = KernelFeatures.fit(0.0, 1.0, 1.0)(x)
    assert np.abs(phi @ phi.T - np.exp(-((x[:, None] - x) ** 2))).max() < 1e-12


@pytest.mark.parametrize("attack", [svm_attack, threshold_attack])
def test_known_answers(attack):
    sure, unsure = np.full(50, 0.99), np.full(50, 0.2)
    assert attack(sure, unsure, unsure) == 100 and attack(sure, unsure, sure) == 0
    assert attack(sure, sure, sure) == 0  # no difference: all count as members
    a = RNG.random(4000)
    assert 25 < attack(a[:2000], a[2000:], RNG.random(4000)) < 75 or attack is svm_attack


def test_svm_refuses_scores_that_are_not_confidences():
    good = np.array([0.1, 0.9])
    for bad in (np.array([]), np.array([0.1, np.nan]), np.array([1.5])):
        with pytest.raises(ExpungeError, match="true-class confidences"):
            svm_attack(good, good, bad)


@pytest.mark.parametrize("seed", range(100))
def test_threshold_equals_brute_force(seed):
    rng = np.random.default_rng(seed)
    for _ in range(5):
        member, nonmember = np.round(rng.random(30), 1), np.round(rng.random(25) ** 2, 1)
        cuts = np.unique(np.r_[member, nonmember])
        # exact fractions: equally good thresholds are a tie, and the lowest wins
        right = {
            c: Fraction(int((nonmember < c).sum()), 25) + Fraction(int((member >= c).sum()), 30) for c in cuts
        }
        best = max(cuts, key=lambda c: (right[c], -c))
        target = np.round(rng.random(40), 2)
        assert threshold_attack(member, nonmember, target) == pytest.approx(100 * (target < best).mean())


def test_modified_entropy_by_hand():
    p = np.array([[0.7, 0.2, 0.1], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    found = modified_entropy(p, np.array([0, 0, 0]))
    assert found[0] == pytest.approx(-0.3 * math.log(0.7) - 0.2 * math.log(0.8) - 0.1 * math.log(0.9))
    assert found[1] == 0 and found[2] > 100  # certain and right; certain and wrong


@pytest.mark.parametrize("seed", range(4))
def test_svm_equals_libsvm_on_saturated_scores(seed):
    """Nearly all confidences are within 1e-3 of 1. No point lies on the margin, so the bias is the middle of an interval."""
    generator = np.random.default_rng(seed)
    member, other = (1 - 10.0 ** -generator.uniform(low, 16, 800) for low in (3, 1))
    svm = SVC(C=3, gamma=1.0, kernel="rbf", tol=1e-8)
    svm.fit(np.concatenate([member, other])[:, None], np.repeat([1, 0], 800))
    asked = np.linspace(0, 1, 201)
    wanted = svm.decision_function(asked[:, None])
    assert np.abs(fit_svm(member, other, 0.0, 1.0, 3.0, 1.0).decide(asked) - wanted).max() < 0.01


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.integers(0, 6), min_size=1, max_size=30), st.lists(st.integers(0, 6), min_size=1, max_size=30)
)
def test_auc_and_tpr_against_their_definitions(positive, negative):
    p, n = np.array(positive, float), np.array(negative, float)
    assert auc(p, n) == pytest.approx(roc_auc_score(np.r_[np.ones(len(p)), np.zeros(len(n))], np.r_[p, n]))
    for fpr in (0.0, 0.1, 0.5, 1.0):
        cuts = [*np.unique(np.r_[p, n]), np.inf, -np.inf]
        want = max((p > c).mean() for c in cuts if (n > c).mean() <= fpr + 1e-12)
        assert tpr_at_fpr(p, n, fpr) == pytest.approx(want)


def test_members_are_balanced_and_seeded():
    a, b = members_and_nonmembers(100, 30, seed=1)
    assert len(a) == len(b) == 30 == len(set(a)) and a.max() < 100 and b.max() < 30
    assert (a == members_and_nonmembers(100, 30, seed=1)[0]).all() and (
        a != members_and_nonmembers(100, 30, seed=2)[0]
    ).any()
    assert members_and_nonmembers(5, 9, paper_exact=True)[1].tolist() == [0, 1, 2, 3, 4]


def test_modified_entropy_keeps_its_order_near_one():
    tiny = np.array([1e-18, 1e-20])
    surely_wrong = modified_entropy(np.stack([1 - tiny, tiny], 1), [1, 1])
    assert surely_wrong[0] < surely_wrong[1] and np.isfinite(surely_wrong).all()
