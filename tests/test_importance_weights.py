"""Weighted validation samples estimate the scores of Retrain on the forget set."""

from dataclasses import replace

import pytest
import torch

from expunge import Classification, Split, TensorData, execute
from expunge.data.likeness import MIN_GROUP, importance_weights, weighted_mean
from expunge.methods.ugradsl import UGradSL
from expunge.projects.wanted import union_of
from expunge.tuning.caution import CautiousEstimate
from expunge.tuning.estimate import estimated_gap, expected_scores, predict_sets

Y = torch.arange(900) % 3
GROUP = torch.arange(900) // 3 % 4
X = torch.nn.functional.one_hot(Y, 4).float()
X[:, 3] = (GROUP == 1) & (Y == 0)  # the model predicts class 2 for samples of class 0 in group 1
DATA, TEST = TensorData(X, Y, groups={"from": GROUP}), TensorData(X[:90] + 0.001, Y[:90])


def trained() -> torch.nn.Module:
    model = torch.nn.Linear(4, 3, bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.eye(4)[:3] * 5)
        model.weight[2, 3] = 9.0
    return model


@pytest.mark.parametrize(
    ("split", "wrong"),
    [
        (lambda: Split.by_class(DATA, TEST, 0, share=0.5, goal="untrain", validation=0.4), ("class", 0)),
        (lambda: Split.by_ids(DATA, TEST, list(range(0, 300, 3)), validation=0.0, copies="ignore"), None),
        (lambda: Split.by_group(DATA, TEST, "from", 1, validation=0.4, copies="ignore"), ("group", 1)),
        (lambda: Split.random(DATA, TEST, 0.2, validation=0.4), ()),
    ],
)
def test_weights_pick_validation_samples_like_the_forget_set(split, wrong):
    split, task, model = split(), Classification(3), trained()
    weights, held_out = importance_weights(split), split.unseen
    assert len(weights) == len(held_out)
    if wrong is None:
        return
    assert float(weights.mean()) == pytest.approx(1)
    columns = {"class": Y, "group": GROUP}
    chosen = (
        columns[wrong[0]][held_out.index] == wrong[1]
        if wrong
        else torch.ones(len(held_out), dtype=torch.bool)
    )
    assert bool((weights[~chosen] == 0).all())
    for k in range(3):  # the class distribution of the forget set
        share = float((weights * (held_out.labels == k)).sum() / weights.sum())
        if wrong:
            assert share == pytest.approx((split.forget.labels == k).double().mean().item())
    error = 100 - 100 * weighted_mean(task.predict(model, held_out).correct, weights)
    assert error > (20 if wrong else 1)
    assert expected_scores(predict_sets(model, split, task), split)["UA"] == pytest.approx(error)
    run = execute(model, split, UGradSL(epochs=1, lr=0.0), task)
    assert run.memo["stop_target"]["percent"] == pytest.approx(100 - error, abs=0.01)


def test_small_groups_and_missing_classes_use_all_validation_samples():
    groups = {"from": (torch.arange(900) > 300).long()}
    split = Split.by_group(TensorData(X, Y, groups=groups), TEST, "from", 1, validation=0.4, copies="ignore")
    # 20 samples of the other group, and one less than 20 of the forgotten group
    few = {
        "validation": split.validation.take(torch.arange(MIN_GROUP)),
        "held_out": split.held_out[: MIN_GROUP - 1],
    }
    assert bool((importance_weights(replace(split, **few)) > 0).all())
    few["held_out"] = split.held_out[:MIN_GROUP]
    assert int((importance_weights(replace(split, **few)) > 0).sum()) == MIN_GROUP
    split = split.without_held_out
    split = replace(split, held_out=split.held_out[:0])
    none = split.validation.take(split.validation.labels != 0)
    only = split.forget.take(split.forget.labels == 0)
    assert bool((importance_weights(replace(split, scenario="ids", forget=only, validation=none)) == 1).all())


@pytest.mark.parametrize("goal", ["untrain", "unlearn"])
def test_a_removed_class_and_single_samples_are_expected_part_by_part(goal):
    """300 samples of class 2, which Retrain never predicts, and 30 of class 0, of which it misses as many as of unseen ones."""
    options = {"validation": 0.4, "seed": 0, "copies": "ignore"}
    removed = Split.by_class(DATA, TEST, 2, goal=goal, **options)
    few = [str(n) for n in removed.train.index[removed.train.labels == 0][:30].tolist()]
    single = Split.by_ids(DATA, TEST, few, goal="untrain", **options)
    union = union_of([removed, single], DATA, TEST, validation=0.4, seed=0)
    task, model = Classification(3), trained()
    original = predict_sets(model, union, task)
    share = len(removed.forget) / len(union.forget)
    alone = expected_scores(predict_sets(model, single, task), single)
    expected = expected_scores(original, union)
    assert 0.5 < share < 1 and 5 < alone["UA"] < 60 and original.removed_share == pytest.approx(share)
    assert expected["UA"] == pytest.approx(100 * share + alone["UA"] * (1 - share))
    assert 100 * share < expected["MIA"] < 100
    assert original.errors == pytest.approx((0, 100 - task.evaluate(model, single.forget).accuracy))
    # nothing is recognised: right for the class, and too much for the single samples
    blind = torch.nn.Linear(4, 3, bias=False)
    with torch.no_grad():
        blind.weight.copy_(trained().weight)
        blind.weight[2] = -9.0
        blind.weight[0] = -9.0
    sets, estimate = predict_sets(blind, union, task), CautiousEstimate.of(original, union)
    assert sets.errors == pytest.approx((100, 100))
    # negative control: UA of the union alone would hide it
    too_much = (1 - share) * (100 - alone["UA"])
    assert estimated_gap(sets, expected) >= too_much / 4 and estimate.margin > 0
