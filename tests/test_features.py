"""Test feature measures against slow forms, and on a bias edit that the scores cannot see."""

import copy
import math

import numpy as np
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier
from torch import nn

from conftest import tiny
from expunge import Classification, ModelError, Split
from expunge.audit import Evaluation, audit, evaluate, feature_measures, features, head_bias
from expunge.audit.feature_measures import fewer_retained
from expunge.data.tensors import TensorData
from expunge.tasks.predictions import Predictions

TASK = Classification(10)


def clouds(n=300, dimension=6, classes=4, apart=8.0, seed=0):
    generator = torch.Generator().manual_seed(seed)
    centres = apart * torch.randn(classes, dimension, generator=torch.Generator().manual_seed(5))
    y = torch.arange(n) % classes
    return centres[y] + torch.randn(n, dimension, generator=generator), y


# ---- probes


def test_probe_and_neighbours_separate_only_separable_classes():
    x, y = clouds()
    new, truth = clouds(seed=1)
    weights = feature_measures.fit_probe(x, y, 4)
    assert (feature_measures.apply_probe(weights, new).argmax(1) == truth).double().mean() > 0.98
    assert (feature_measures.nearest_classes(x, y, new, 4) == truth).double().mean() > 0.98
    noise, other = (clouds(apart=0, seed=s)[0] for s in (2, 3))
    assert (
        feature_measures.apply_probe(feature_measures.fit_probe(noise, y, 4), other).argmax(1) == y
    ).double().mean() < 0.45


def test_few_retained_samples_are_drawn_by_the_seed():
    assert fewer_retained(7, 0).tolist() == list(range(7))
    first, again, other = (fewer_retained(20_010, seed) for seed in (3, 3, 4))
    assert len(first) == 20_000 and torch.equal(first, again) and not torch.equal(first, other)
    assert torch.equal(first, first.unique())


def test_neighbours_equal_scikit_learn():
    x, y = clouds(apart=0.8)
    new, _ = clouds(apart=0.8, seed=1)
    theirs = (
        KNeighborsClassifier(1, metric="cosine")
        .fit(x.double().numpy(), y.numpy())
        .predict(new.double().numpy())
    )
    assert (feature_measures.nearest_classes(x, y, new, 4, k=1).numpy() == theirs).all()


def test_probe_weighs_every_class_equally():
    x, y = clouds(apart=1.5, classes=2)
    rare = torch.cat([(y == 0).nonzero()[:, 0], (y == 1).nonzero()[:8, 0]])
    classes = feature_measures.apply_probe(feature_measures.fit_probe(x[rare], y[rare], 2), x).argmax(1)
    assert abs((classes == 1).double().mean() - 0.5) < 0.15


def test_cka_equals_its_definition_and_ignores_rotation_and_scale():
    a, b = (
        torch.randn(40, 5, generator=torch.Generator().manual_seed(0)),
        torch.randn(40, 7, generator=torch.Generator().manual_seed(1)),
    )
    centre = torch.eye(40) - 1 / 40
    k, l = centre @ (a @ a.T) @ centre, centre @ (b @ b.T) @ centre
    assert feature_measures.cka(a, b) == pytest.approx(float((k * l).sum() / (k.norm() * l.norm())), rel=1e-4)
    turn = torch.linalg.qr(torch.randn(5, 5)).Q
    assert feature_measures.cka(a, 3 * a @ turn + 2) == pytest.approx(1)


def test_scatter_by_hand():
    x = torch.tensor([[0.0], [2.0], [10.0], [12.0]])
    assert feature_measures.scatter_ratio(x, torch.tensor([0, 0, 1, 1]), [1]) == pytest.approx(100.0)
    assert math.isnan(feature_measures.scatter_ratio(x, torch.zeros(4, dtype=torch.long), [0]))


# ---- the head


def predictions(rows, labels):
    return Predictions(torch.tensor(rows), torch.tensor(labels), torch.zeros(len(rows), 1))


def evaluation_of(*sets):
    """Return an evaluation from predictions on forget, retain, test and forgotten test samples."""
    return Evaluation(None, *sets)


def test_bias_correction_finds_the_hidden_shift():
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(400) % 4
    z = 8 * nn.functional.one_hot(y, 4) + torch.randn(400, 4, generator=generator)
    hidden = z.clone()
    hidden[:, 2] -= 30
    at = lambda keep: Predictions(hidden[keep], y[keep], hidden[keep])  # noqa: E731
    evaluation = evaluation_of(at(y == 2), at(y != 2), at(y != 2), at(y == 2))
    figures = head_bias.bias_correction(evaluation, [2])
    assert 24 < figures["shift"] < 36 and figures["forgotten"] > 98 and figures["retained"] > 98


def test_bias_correction_is_the_best_shift_of_a_grid():
    generator = torch.Generator().manual_seed(1)
    y = torch.arange(300) % 5
    z = 1.5 * nn.functional.one_hot(y, 5) + torch.randn(300, 5, generator=generator)
    z[:, :2] -= 2
    forgotten = y < 2
    at = lambda keep: Predictions(z[keep], y[keep], z[keep])  # noqa: E731
    figures = head_bias.bias_correction(
        evaluation_of(at(forgotten), at(~forgotten), at(~forgotten), at(forgotten)), [0, 1]
    )

    def mean_accuracy(shift):
        moved = z.double().clone()
        moved[:, :2] += shift
        right = moved.argmax(1) == y
        return (right[forgotten].double().mean() + right[~forgotten].double().mean()) / 2

    best = max(mean_accuracy(s) for s in np.linspace(-6, 10, 801))
    assert mean_accuracy(figures["shift"]) >= best - 1e-9
    assert (figures["forgotten"] + figures["retained"]) / 200 == pytest.approx(
        mean_accuracy(figures["shift"])
    )


def test_head_bias_by_hand():
    figures = head_bias.head_bias(torch.tensor([1.0, 2.0, 3.0, -4.0]), [3])
    assert figures["BSC"] == pytest.approx(1 / 7)
    assert figures["MBG"] == figures["MBS"] == pytest.approx(1 / (1 + math.exp(5)))
    assert head_bias.head_bias(None, [0]) is None


def test_shares_and_total_variation():
    p = predictions([[1.0, 0, 0], [0, 1.0, 0], [0, 2.0, 1], [0, 3.0, 0]], [0, 0, 0, 0])
    assert p.shares.tolist() == [0.25, 0.75, 0]
    assert feature_measures.total_variation(p.shares, torch.tensor([0.5, 0, 0.5])) == pytest.approx(0.75)


def test_worst_group():
    data = TensorData(
        torch.zeros(4, 1),
        torch.zeros(4, dtype=torch.long),
        groups={"site": ["a", "a", "b", "b"], "age": [1, 2, 1, 2]},
    )
    p = predictions([[0, 1.0], [1.0, 0], [0, 1.0], [1.0, 0]], [0, 0, 0, 0])
    assert features.worst_group(p, data.samples()) == {
        "column": "age",
        "value": "1",
        "accuracy": 0,
        "size": 2,
    }
    assert (
        features.worst_group(p, TensorData(torch.zeros(4, 1), torch.zeros(4, dtype=torch.long)).samples())
        is None
    )


# ---- together


def test_features_expose_a_bias_edit_that_scores_miss(classifier):
    """The null baseline lowers one bias. UA is 100 and nothing else changes, but the features still separate the class."""
    split, original = classifier.by_class, classifier.model
    hidden = copy.deepcopy(original)
    with torch.no_grad():
        TASK.head(hidden)[1].bias[3] -= 100
    assert TASK.predict(hidden, split.forget).accuracy == 0
    figures = features.feature_audit({"original": original, "unlearned": hidden}, split, TASK)
    for measure in ("probe_forgotten", "knn_forgotten", "scatter", "cka_original"):
        assert figures[measure]["unlearned"] == pytest.approx(figures[measure]["original"])
    assert figures["corrected_forgotten"]["unlearned"] == pytest.approx(
        figures["corrected_forgotten"]["original"], abs=5
    )
    assert figures["corrected_forgotten"]["unlearned"] > 80
    assert figures["bias_shift"]["unlearned"] > 80 > abs(figures["bias_shift"]["original"])
    assert figures["BSC"]["unlearned"] < 0.05


def test_random_forget_sets_have_no_class_figures(classifier):
    figures = features.feature_audit(
        {"unlearned": classifier.model, "retrained": classifier.model}, classifier.at_random, TASK
    )
    assert "probe_forgotten" not in figures and figures["tv_retrained"]["unlearned"] == 0
    assert figures["cka_retrained"]["unlearned"] == pytest.approx(1)
    assert 0.3 < figures["member_probe"]["unlearned"] < 0.7


def test_member_probe_sees_membership_in_features():
    x, _ = clouds(200, apart=0)
    marked = x.clone()
    marked[:, 0] += 4
    assert feature_measures.member_probe(marked, x) > 0.95
    assert feature_measures.member_probe(marked, x[:4]) is None
    few, enough = feature_measures.MIN_SAMPLES - 1, feature_measures.MIN_SAMPLES
    for forget, unseen in ((few, enough), (enough, few)):
        assert feature_measures.member_probe(marked[:forget], x[:unseen]) is None
    assert feature_measures.member_probe(marked[:enough], x[:enough]) is not None


def test_has_head():
    assert TASK.has_head(tiny())
    assert not TASK.has_head(nn.Sequential(nn.Flatten(), nn.Linear(64, 7)))


class PerToken(nn.Module):
    """Average the logits of a head over the rows of an image. With `leaves`, skip the head in eval mode."""

    def __init__(self, leaves=False):
        super().__init__()
        self.leaves, self.early, self.head = leaves, nn.Linear(8, 10, bias=False), nn.Linear(8, 10)

    def forward(self, x):
        skipped = self.leaves and not self.training
        return (self.early if skipped else self.head)(x[:, 0]).mean(1)


@pytest.mark.parametrize("leaves", [False, True])
def test_head_without_one_vector_per_sample_is_evaluated_without_features(classifier, leaves):
    split, model = classifier.by_class, PerToken(leaves)
    assert TASK.has_head(model) and not TASK.has_head(model, split.retain)
    evaluation = evaluate(model, split, TASK)
    assert evaluation.retain.features is None
    assert "UA" in audit(model, split, TASK).scores
    with pytest.raises(ModelError, match="one vector per sample"):
        features.evaluate_features(model, split, TASK)


def test_splits_without_unseen_samples_of_the_class(classifier):
    split = classifier.by_class
    keep = split.test.labels >= 0
    lone = Split.by_class(
        split.forget.data, (split.test.data.x[split.test.index[keep]], split.test.labels[keep]), forget=3
    )
    figures = features.feature_audit({"unlearned": classifier.model}, lone, TASK)
    assert "probe_forgotten" not in figures and figures["member_probe"]["unlearned"] is None
