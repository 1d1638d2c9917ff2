"""What the forget set should look like to Retrain comes from validation samples like it: its classes, its group."""

from dataclasses import replace

import pytest
import torch

from expunge import Classification, Split, TensorData, execute
from expunge.data.likeness import FEW, likeness, mean_like
from expunge.methods.ugradsl import UGradSL
from expunge.tuning.trials import expected_scores, predict_sets

Y = torch.arange(900) % 3
GROUP = torch.arange(900) // 3 % 4
X = torch.nn.functional.one_hot(Y, 4).float()
X[:, 3] = (GROUP == 1) & (Y == 0)  # samples of class 0 in group 1 are taken for class 2
DATA, TEST = TensorData(X, Y, groups={"from": GROUP}), TensorData(X[:90] + 0.001, Y[:90])


def knows() -> torch.nn.Module:
    model = torch.nn.Linear(4, 3, bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.eye(4)[:3] * 5)
        model.weight[2, 3] = 9.0
    return model


@pytest.mark.parametrize(
    ("split", "wrong"),
    [
        (lambda: Split.by_class(DATA, TEST, 0, share=0.5, goal="untrain", validation=0.4), ("class", 0)),
        (lambda: Split.by_ids(DATA, TEST, list(range(0, 300, 3)), validation=0.0), None),
        (lambda: Split.by_group(DATA, TEST, "from", 1, validation=0.4), ("group", 1)),
        (lambda: Split.random(DATA, TEST, 0.2, validation=0.4), ()),
    ],
)
def test_unseen_samples_like_those_of_the_forget_set(split, wrong):
    split, task, model = split(), Classification(3), knows()
    alike, held = likeness(split), split.validation
    assert len(alike) == len(held)
    if wrong is None:
        return
    assert float(alike.mean()) == pytest.approx(1)
    which = {"class": Y, "group": GROUP}
    chosen = which[wrong[0]][held.index] == wrong[1] if wrong else torch.ones(len(held), dtype=torch.bool)
    assert bool((alike[~chosen] == 0).all())
    for k in range(3):  # the classes in the shares of the forget set
        share = float((alike * (held.labels == k)).sum() / alike.sum())
        if wrong:
            assert share == pytest.approx((split.forget.labels == k).double().mean().item())
    error = 100 - 100 * mean_like(task.predict(model, held).correct, alike)
    assert error > (20 if wrong else 1)
    assert expected_scores(predict_sets(model, split, task), split)["UA"] == pytest.approx(error)
    run = execute(model, split, UGradSL(epochs=1, lr=0.0), task)
    assert run.memo["target"] == pytest.approx(100 - error, abs=0.01)


def test_a_group_of_few_and_classes_of_none_fall_back_on_all():
    groups = {"from": (torch.arange(900) > 300).long()}
    split = Split.by_group(TensorData(X, Y, groups=groups), TEST, "from", 1, validation=0.4)
    few = split.validation.take(torch.arange(FEW))  # the first ones, of the other group
    assert bool((likeness(replace(split, validation=few)) > 0).all())
    none = split.validation.take(split.validation.labels != 0)
    only = split.forget.take(split.forget.labels == 0)
    assert bool((likeness(replace(split, scenario="ids", forget=only, validation=none)) == 1).all())
