"""Tasks and details of the user that cannot be scored are named before anything is trained."""

from __future__ import annotations

import sys
import warnings
from dataclasses import dataclass

import pytest
import torch
from torch import nn

from expunge import (
    Classification,
    ExpungeError,
    Method,
    Retrain,
    Split,
    Task,
    audit,
    bench,
    execute,
    experiment,
    find,
)
from expunge.data.class_names import class_names, pair_problems
from expunge.data.convert import as_data
from expunge.errors import ModelError
from expunge.methods.finetune import FineTune

ONE = FineTune(epochs=1, lr=0.01)


def points(count, seed):
    x = torch.randn(count, 4, generator=torch.Generator().manual_seed(seed))
    return as_data((x, x.sum(1)))


SPLIT = Split.random(points(60, 0), points(30, 1), 0.1)


def task(**members):
    """A regression that offers scores, with other members."""
    plain = {
        "name": "regression",
        "offers": ("scores",),
        "loss": lambda self, model, b: (model(b.x)[:, 0] - b.y).square(),
        "sample_scores": lambda self, model, b: ((model(b.x)[:, 0] - b.y).abs() < 0.5).float(),
    }
    return type("Mine", (Task,), {**plain, **members})()


def model():
    torch.manual_seed(0)
    return nn.Linear(4, 1)


def test_a_sound_task_passes():
    assert execute(model(), SPLIT, ONE, task()).ended == "finished"
    assert 0 <= audit(model(), SPLIT, task()).scores["UA"] <= 100


def scores(value):
    return lambda self, m, b: value(len(b))


@pytest.mark.parametrize(
    ("members", "words"),
    [
        (
            {"sample_scores": scores(lambda n: torch.full((n,), 100.0))},
            "goes from 100 to 100; return numbers from 0",
        ),
        ({"sample_scores": scores(lambda n: 0.5)}, "returned a float; return one score a sample"),
        ({"sample_scores": scores(lambda n: torch.ones(n, 1))}, r"has shape \(2, 1\)"),
        ({"sample_scores": scores(lambda n: torch.full((n,), torch.nan))}, "is not finite where the loss is"),
        (
            {"sample_scores": scores(lambda n: 1 // 0)},
            "sample_scores .* fails on two samples: ZeroDivisionError",
        ),
        ({"loss": lambda self, m, b: None}, "is a NoneType; return one loss a sample"),
        ({"loss": lambda self, m, b: [1.0, 2.0]}, "is a list; return one loss a sample"),
        ({"name": None}, "the task Mine has no name"),
        ({"num_classes": "10"}, "num_classes of the task Mine is '10'"),
    ],
)
def test_a_task_that_cannot_be_scored_is_refused_before_training(members, words):
    wrong = task(**members)
    for call in (lambda: execute(model(), SPLIT, ONE, wrong), lambda: audit(model(), SPLIT, wrong)):
        with pytest.raises(ExpungeError, match=words):
            call()


def test_scores_that_leave_the_range_later_are_refused_by_the_audit():
    late = task(sample_scores=lambda self, m, b: torch.full((len(b),), 1.0 if len(b) == 2 else 3.0))
    with pytest.raises(ModelError, match="goes from 3 to 3"):
        audit(model(), SPLIT, late)


def test_a_negative_loss_is_named_before_training_and_refused_by_the_audit():
    gaussian = task(loss=lambda self, m, b: (m(b.x)[:, 0] - b.y).square() - 100)
    with pytest.warns(RuntimeWarning, match="the loss of the task regression is negative"):
        execute(model(), SPLIT, ONE, gaussian)
    with (
        pytest.warns(RuntimeWarning, match="negative"),
        pytest.raises(ModelError, match="add a constant to the loss"),
    ):
        audit(model(), SPLIT, gaussian)


def test_classification_still_takes_no_class_number_as_text():
    with pytest.raises(ExpungeError, match="num_classes of the task Classification is '10'"):
        execute(nn.Linear(4, 10), SPLIT, ONE, Classification("10"))


# ---- details


@dataclass(frozen=True, kw_only=True)
class Reports(Method):
    kind: str = "good"

    def apply(self, run):
        with torch.no_grad():
            run.model.weight.mul_(0.9)

    def details(self, run):
        if self.kind == "raises":
            raise KeyError("no")
        return {"good": {"own": 1}, "none": None, "text": "x", "code": {"implementation": "me", "own": 2}}[
            self.kind
        ]


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("raises", "Reports.details failed: KeyError"),
        ("none", "returned NoneType"),
        ("text", "returned str"),
        ("code", "has the entry 'implementation'"),
    ],
)
def test_wrong_details_cost_a_warning_and_not_the_run(kind, words):
    with pytest.warns(RuntimeWarning, match=words):
        outcome = experiment(model(), SPLIT, Reports(kind=kind), task())
    assert outcome.record.details["implementation"]["class"].endswith(":Reports")
    assert outcome.record.details.get("own") == (2 if kind == "code" else None)


def test_good_details_are_kept():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert experiment(model(), SPLIT, Reports(), task()).record.details["own"] == 1


def test_a_module_that_ends_the_program_is_named(tmp_path, monkeypatch):
    (tmp_path / "leaves.py").write_text("import sys\nsys.exit(9)\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ExpungeError, match="leaves:Mine cannot be imported: SystemExit: 9"):
        find("leaves:Mine")
    sys.modules.pop("leaves", None)


# ---- data


def test_labels_with_a_large_gap_are_no_classes():
    x, y = torch.ones(30, 4), torch.arange(30) % 3
    with pytest.raises(ExpungeError, match="labels go to 2000000, but only 3 values occur"):
        bench([ONE], data=((x, y * 1_000_000), (x[:9], y[:9])), model="mlp", forget=0.1)
    # numbers that a task of the user's own predicts are no classes
    large = (x, 1_000_000 + y), (x[:9], 1_000_000 + y[:9])
    compared = bench(
        [ONE],
        data=large,
        model=lambda: nn.Linear(4, 1),
        forget=0.1,
        task=task(),
        recipe=Retrain(epochs=1, lr=1e-16),
        trials=0,
    )
    assert len(compared.outcomes) == 3
    assert class_names(as_data((x, y))) == ["0", "1", "2"]
    # a part of a large set may lack classes
    assert len(class_names(as_data((x, y * 499)))) == 999


@pytest.mark.parametrize("trials", [-1, "2", True, 1.5])
def test_a_wrong_number_of_trials_is_refused_before_anything_is_trained(trials):
    with pytest.raises(ExpungeError, match=f"trials is {trials!r}; it must be a whole number, 0 or None"):
        bench([ONE], data="no/such/data", model="mlp", forget=0.1, trials=trials)


def test_labels_that_are_no_classes_and_inputs_of_other_shapes_are_named():
    x, y = torch.ones(30, 4), torch.arange(30) % 3
    with pytest.raises(ExpungeError, match="the labels are no numbers"):
        as_data((x, [{}] * 30))
    assert as_data((x, ["cat", "ant"] * 15)).classes == ["ant", "cat"]
    train, test = as_data((x, y)), as_data((torch.ones(9, 5), y[:9]))
    assert "of shape (5,) (floats), of the training data of shape (4,)" in pair_problems(train, test)[0]
    assert pair_problems(train, as_data((torch.ones(9, 4), y[:9]))) == []
