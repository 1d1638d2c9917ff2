"""Test IAM, RULI, IDI, SalUn's five SVM scores and ToW-MIA against literal forms and numbers worked out by hand."""

import copy
import math
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest
import torch
from scipy.stats import gumbel_r, norm
from sklearn.svm import SVC
from torch import nn

from expunge import Classification, ExpungeError, Retrain, audit
from expunge.audit import evaluate
from expunge.audit.layers import blocks_of, layer_outputs
from expunge.audit.measure import Measure
from expunge.audit.measures.iam import IAM, completeness, fit_signal
from expunge.audit.measures.idi import IDI, information
from expunge.audit.measures.svm import SVM, m_entropy
from expunge.audit.measures.tow_mia import ToWMIA
from expunge.audit.population_figures import iam_figures, ruli_figures
from expunge.audit.ruli import likelihood_share, log_density, ruli_attack, vulnerability_of
from expunge.audit.shadow_attacks import other_request
from expunge.tasks.predictions import Predictions
from expunge.training.execute import execute
from generators import same_in_any_order

TASK = Classification(10)
RNG = np.random.default_rng(0)
same_numbers = same_in_any_order(RNG)


@pytest.fixture(scope="module")
def world(classifier):
    """Evaluations of an original, a retrained model and a bias shift."""
    split = classifier.by_class
    gold = execute(classifier.model, split, Retrain(epochs=4, lr=0.05, batch_size=64), TASK).model
    hidden = copy.deepcopy(classifier.model)
    with torch.no_grad():
        TASK.head(hidden)[1].bias[3] -= 100
    original, retrained, shifted = (evaluate(m, split, TASK) for m in (classifier.model, gold, hidden))
    return SimpleNamespace(split=split, original=original, retrained=retrained, shifted=shifted)


# ---- ToW-MIA


def test_tow_mia_is_the_product_worked_out_by_hand():
    scored = lambda **scores: SimpleNamespace(scores=scores)  # noqa: E731
    own, reference = scored(MIA=15.0, RA=99.0, TA=90.0), scored(MIA=10.0, RA=100.0, TA=92.0)
    assert ToWMIA().compute(own, None, reference, None) == pytest.approx(0.95 * 0.99 * 0.98)


# ---- IAM


def literal_completeness(own, fit, out, sigma=None):
    """Each interpolant of each model written out, with scipy's distribution."""
    grid = np.linspace(0, 1, 100)
    top = bottom = 0.0
    for k in range(99):
        points = out + grid[k] * (fit - out)
        mean, deviation = points.mean(0), sigma or points.std(0)
        scale = math.sqrt(6) * deviation / math.pi
        top = top + grid[k + 1] * np.exp(gumbel_r.logcdf(own, mean - 0.5772156649 * scale, scale))
        bottom += grid[k + 1]
    return 1 - top / bottom


def test_completeness_equals_its_literal_form():
    own, fit, out = RNG.normal(2, 2, 20), RNG.normal(5, 1, 20), RNG.normal(1, 1, (6, 20))
    assert completeness(own, fit, out) == pytest.approx(literal_completeness(own, fit, out))
    assert completeness(own, fit, out[:1], sigma=0.7) == pytest.approx(
        literal_completeness(own, fit, out[:1], 0.7)
    )
    # one model: the deviation is that of the interpolants over the samples
    grid = np.linspace(0, 1, 100)
    mean = [out[0] + a * (fit - out[0]) for a in grid[:-1]]
    shares = sum(b * norm.cdf(own, m, m.std()) for b, m in zip(grid[1:], mean, strict=True)) / grid[1:].sum()
    assert completeness(own, fit, out[:1], distribution="normal") == pytest.approx(1 - shares)


def test_completeness_by_hand():
    same = np.zeros(3)
    # the distribution function of a Gumbel variable at its mean is exp(-exp(-Euler's constant)) = 0.5704
    assert completeness(same, same, same[None], sigma=1.0) == pytest.approx(0.4296, abs=1e-4)
    assert completeness(same, same, same[None], sigma=2.0, distribution="normal") == pytest.approx(0.5)
    out, fit = np.zeros((1, 3)), np.full(3, 4.0)
    values = completeness(np.array([-1e3, 1.0, 1e3]), fit, out, sigma=1.0)
    assert values[0] == 1 and values[2] == pytest.approx(0) and values[0] > values[1] > values[2]
    shifted = completeness(np.array([-1e3, 1.0, 1e3]) + 7, fit + 7, out + 7, sigma=1.0)
    assert shifted == pytest.approx(values)
    with pytest.raises(ExpungeError, match=r"(?s)own has shape \(3,\) and fit \(2,\).*out has shape \(3,\)"):
        completeness(np.zeros(3), np.zeros(2), np.zeros(3))


def test_signal_is_minus_the_logarithm_of_the_loss():
    margins = np.array([-3.0, 0.0, 5.0, 900.0])
    loss = -np.log(1 / (1 + np.exp(-margins[:3])))
    assert fit_signal(margins)[:3] == pytest.approx(-np.log(loss))
    assert np.isfinite(fit_signal(margins)).all() and (np.diff(fit_signal(margins)) > 0).all()


def test_iam_is_low_without_unlearning_and_high_for_retrain(world):
    value = lambda e: IAM().compute(e, world.original, world.retrained, TASK)  # noqa: E731
    assert value(world.original)["completeness"] < 0.3 < 0.7 < value(world.retrained)["completeness"]
    assert value(world.retrained)["below_unseen"] == 0
    # a bias shift overshoots: it is less sure of every sample than Retrain
    assert value(world.shifted) == {"completeness": pytest.approx(1, abs=0.01), "below_unseen": 1.0}
    assert IAM().compute(world.original, None, world.retrained, TASK) is None


def population(shift, seed, models=12, samples=30):
    centre = np.random.default_rng(99).normal(0, 3, samples)
    return centre + shift + np.random.default_rng(seed).normal(0, 1, (models, samples))


def test_iam_of_populations_has_a_null_and_an_original():
    rows = {"original": population(6, 1), "retrained": population(0, 2), "unlearned": population(3, 3)}
    figures = iam_figures({p: {"forget": v} for p, v in rows.items()})
    assert figures["completeness_original"] < figures["completeness"] < figures["completeness_null"]


# ---- RULI


def test_density_equals_its_literal_form():
    at, values = RNG.normal(0, 1, 4), RNG.normal(0, 2, (7, 4))
    for i in range(4):
        h = values[:, i].std(ddof=1) * 7**-0.2
        expected = np.mean([norm.pdf(at[i], v, h) for v in values[:, i]])
        assert log_density(at, values)[i] == pytest.approx(math.log(expected))
        assert log_density(at, values, 1.0)[i] == pytest.approx(
            math.log(np.mean([norm.pdf(at[i], v, 1.0) for v in values[:, i]]))
        )


def test_likelihood_share_by_hand():
    inside, outside = population(3, 1), population(0, 2)
    at = population(1, 3)[0]
    share = likelihood_share(at, inside, outside)
    assert ((share >= 0) & (share <= 1)).all()
    assert likelihood_share(at, outside, inside) == pytest.approx(1 - share)
    # far from all data, both densities are 0 in floating point, and the ratio is still defined
    assert np.isfinite(likelihood_share(np.full(30, 1e4), inside, outside)).all()
    # at the middle of two equal kernels
    assert likelihood_share(np.zeros(1), np.ones((1, 1)), -np.ones((1, 1)), 1.0)[0] == 0.5


def test_ruli_separates_only_what_differs():
    same = ruli_attack(population(0, 1, 40), population(0, 2, 40))
    far = ruli_attack(population(10, 1), population(0, 2))
    assert same["auc"] == pytest.approx(0.5, abs=0.05) and same["accuracy"] == pytest.approx(0.5, abs=0.05)
    assert far["auc"] == far["accuracy"] == far["tpr_at_1"] == 1
    shift = np.where(np.arange(30) < 10, 3.0, 0.0)
    mixed = ruli_attack(population(shift, 1, 40), population(0, 2, 40), vulnerability=shift)
    assert mixed["auc_vulnerable"] > 0.95 and mixed["auc_protected"] == pytest.approx(0.5, abs=0.07)
    assert vulnerability_of(population(shift, 1, 40), population(0, 2, 40))[:10].min() > 1.5
    # the released bandwidth of 1 and the clipping blur what narrow or sure populations show
    narrow = [population(shift, seed) / 100 for shift, seed in ((3, 1), (0, 2))]
    at = population(3, 3)[0] / 100
    assert abs(likelihood_share(at, *narrow, 1.0) - 0.5).max() < 0.01
    assert likelihood_share(at, *narrow).mean() > 0.8
    # all beyond the clip of 13.8 on one side are alike, but not those on different sides
    for sign in (1, -1):
        assert ruli_attack(population(40 * sign, 1), population(30 * sign, 2), as_released=True)["auc"] == 0.5
    assert ruli_attack(population(40, 1), population(-40, 2), as_released=True)["auc"] == 1.0


def test_ruli_has_a_part_for_efficacy_and_one_for_privacy():
    rows = {"original": population(6, 1), "retrained": population(0, 2), "unlearned": population(3, 3)}
    values = {p: {"forget": v} for p, v in rows.items()}
    assert set(ruli_figures(values)) == {"efficacy"}
    parts = ruli_figures(values, population(3, 4))
    assert parts["efficacy"]["auc"] > 0.95 and parts["efficacy"]["auc_original"] > 0.999
    # the method moves samples that it never saw as far, so it gives no sample away
    assert parts["privacy"]["auc"] == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize("which", ["by_class", "at_random"])
def test_another_request_has_other_samples(classifier, which):
    split = getattr(classifier, which)
    other = other_request(split, 0)
    index = lambda s: set(s.index.tolist())  # noqa: E731
    assert not index(other.forget) & index(split.forget) and not index(other.forget) & index(other.retain)
    assert index(other.forget) | index(other.retain) == index(split.retain)
    assert len(other.forget_classes) == len(split.forget_classes) and other.hash != split.hash
    if which == "by_class":
        assert set(other.forget.labels.tolist()) == set(other.test_forgotten.labels.tolist())
        assert not set(other.test.labels.tolist()) & set(other.forget_classes)
    else:
        assert len(other.forget) == len(split.forget)


# ---- IDI


def test_information_is_between_nothing_and_one_bit():
    noise = [torch.randn(400, 5, generator=torch.Generator().manual_seed(s)) for s in (0, 1)]
    assert abs(information(*noise)) < 0.02
    assert 0.6 < information(noise[0] + 6, noise[1]) < math.log(2)
    assert information(noise[0] + 0.7, noise[1]) < information(noise[0] + 2, noise[1])


def test_information_of_two_gaussians_is_their_mutual_information():
    """The best critic of two unit Gaussians is linear, so the bound is tight up to the error of the fit."""
    a, b = (torch.randn(6000, 1, generator=torch.Generator().manual_seed(s)) for s in (0, 1))
    grid = np.linspace(-8, 10, 4001)
    p, q = norm.pdf(grid, 2), norm.pdf(grid, 0)
    mixture = (p + q) / 2
    exact = np.trapezoid(p * np.log(p / mixture) / 2 + q * np.log(q / mixture) / 2, grid)
    assert information(a + 2, b) == pytest.approx(exact, abs=0.02)


def test_idi_is_one_for_the_original_and_its_bias_shift_and_zero_for_retrain(world):
    measure = IDI()
    value = lambda e: measure.compute(e, world.original, world.retrained, TASK)  # noqa: E731
    assert value(world.original) == 1 and value(world.retrained) == 0
    assert value(world.shifted) == pytest.approx(1)
    assert IDI().compute(world.original, None, world.retrained, TASK) is None
    # an original that tells no more than Retrain gives no ratio
    assert measure.compute(world.shifted, world.retrained, world.original, TASK) is None


def test_layers_are_the_blocks_without_the_head(classifier):
    model, samples = classifier.model, classifier.by_class.forget
    outputs = layer_outputs(model, samples, TASK)
    assert list(blocks_of(model)) == ["0", "1", "4", "5", "7"] and list(outputs) == ["0", "1", "4", "5"]
    with torch.no_grad():
        first = model[0](next(samples.batches(len(samples))).x)
    assert outputs["0"].shape == (len(samples), 96) and torch.equal(outputs["0"], first.flatten(1))
    assert not model._forward_hooks and not any(m._forward_hooks for m in model.modules())
    wrapped = nn.Sequential(model)
    assert list(blocks_of(wrapped)) == [f"0.{k}" for k in (0, 1, 4, 5, 7)]


# ---- the five SVM scores


def test_svm_scores_equal_scikit_learn(world):
    own = world.original
    scores = SVM(first=True).compute(own, None, None, TASK)
    size = len(own.test.labels)
    p = {n: getattr(own, n).probabilities.numpy() for n in ("retain", "test", "forget")}
    y = {n: getattr(own, n).labels.numpy() for n in p}
    outputs = {
        "correctness": {n: (v.argmax(1) == y[n]).astype(float)[:, None] for n, v in p.items()},
        "confidence": {n: v[np.arange(len(v)), y[n]][:, None] for n, v in p.items()},
        "entropy": {n: -(v * np.log(v)).sum(1)[:, None] for n, v in p.items()},
        "prob": p,
    }
    for name, values in outputs.items():
        svc = SVC(C=3, gamma="auto", kernel="rbf")
        svc.fit(np.concatenate([values["retain"][:size], values["test"]]), np.repeat([1, 0], size))
        decision = svc.decision_function(values["forget"])
        # libsvm stops when its conditions hold to 1e-3, so decisions this close to 0 are open
        low, high = 100 * (decision < -0.02).mean(), 100 * (decision < 0.02).mean()
        assert low <= scores[name] <= high, name
    assert set(scores) == set(SVM.parts)


def test_confidence_is_the_headline_mia(world):
    result = audit(world.original.model, world.split, TASK, measures=["SVM"])
    assert result.scores["SVM_confidence"] == result.scores["MIA"]
    names = [n for n in result.scores if n.startswith("SVM_")]
    assert names == [f"SVM_{part}" for part in SVM.parts] and names == list(result.details["measures"])


def test_m_entropy_is_that_of_the_released_code():
    p = torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.6, 0.3]], dtype=torch.float64)
    predictions = Predictions(p.log(), torch.tensor([0, 0]))
    # only class 0 occurs, so its column has 1 - p for both samples
    expected = [
        -(0.3 * math.log(0.7) + 0.2 * math.log(0.2) + 0.1 * math.log(0.1)),
        -(0.9 * math.log(0.1) + 0.6 * math.log(0.6) + 0.3 * math.log(0.3)),
    ]
    assert m_entropy(predictions).tolist() == pytest.approx(expected)


def test_a_measure_with_parts_must_return_them(world):
    class Two(Measure):
        name = "two"
        glossary = "Two numbers."
        parts: ClassVar = {"a": "The first.", "b": "The second."}

        def compute(self, unlearned, original, retrained, task):
            return {"a": 1.0}

    with pytest.warns(RuntimeWarning, match="return a value for each of a, b"):
        scores = audit(world.original.model, world.split, TASK, measures=[Two]).scores
    assert scores["two_a"] is scores["two_b"] is None
