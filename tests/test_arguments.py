"""Wrong arguments and wrong code of the user are named before or where they act."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import nn

from expunge import (
    Classification,
    ExpungeError,
    GradientMethod,
    Method,
    Retrain,
    Split,
    audit,
    bench,
    execute,
    experiment,
    unlearn,
)
from expunge.bench.labels import label_problems
from expunge.methods.finetune import FineTune
from expunge.models import build
from expunge.sources import load
from expunge.torch_utils.module_state import same_parameters

SOURCE = load("digits?limit=150")
TASK = Classification(10)
ONE = FineTune(epochs=1)


@pytest.fixture(scope="module")
def split():
    return Split.by_class(SOURCE.train, SOURCE.test, 3)


@pytest.fixture
def model():
    torch.manual_seed(0)
    return build("mlp", num_classes=10, shape=(1, 8, 8))


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("model", None, "model is None; give a model"),
        ("model", {}, "Load a state dict"),
        ("model", nn.Linear, "model is the class Linear"),
        ("split", "digits", "split is 'digits'; give a Split"),
        ("split", TASK, "The order of arguments is model, split, method, task"),
        ("task", "classification", "task is 'classification'; give a task"),
        ("task", Classification, "task is the class Classification"),
        ("compute", "bf16", "compute is 'bf16'; give a Compute"),
        ("seed", 1.5, "the seed is 1.5"),
        ("seed", True, "the seed is True"),
        ("seed", None, "the seed is None"),
        ("seed", "0", "the seed is '0'"),
    ],
)
def test_every_function_names_a_wrong_argument(model, split, name, value, words):
    good = {"model": model, "split": split, "task": TASK}
    for call in (unlearn, execute, experiment, audit):
        extra = {} if call is audit else {"method": ONE}
        with pytest.raises(ExpungeError) as refusal:
            call(**{**good, **extra, name: value})
        assert words in str(refusal.value)


@pytest.mark.parametrize(
    ("name", "value"), [("mask", 0.5), ("factory", nn.Linear(1, 1)), ("on_row", 5), ("state_file", 3)]
)
def test_options_of_a_run_are_checked(model, split, name, value):
    for call in (execute, experiment):
        with pytest.raises(ExpungeError, match=f"{name} is "):
            call(model, split, ONE, TASK, **{name: value})


def test_all_wrong_arguments_are_listed_at_once(model, split):
    with pytest.raises(ExpungeError) as refusal:
        experiment(None, split, ONE, "x", names="mlp", original=model, kind="foo", seed=1.5, fixed="epochs")
    assert len(refusal.value.problems) == 7
    with pytest.raises(ExpungeError) as refusal:
        audit(model, split, TASK, tolerances=5.0, retrained="gold", measures=())
    assert [p.split()[0] for p in refusal.value.problems] == ["retrained", "tolerances"]
    with pytest.raises(ExpungeError) as refusal:
        bench(
            [ONE], data=split, model="mlp", recipe="retrain", task="classification", compute=1, on_outcome=1
        )
    assert [p.split()[0] for p in refusal.value.problems] == ["compute", "on_outcome", "task", "recipe"]


def test_numbers_of_numpy_are_seeds_and_shares(model, split):
    one, other = (execute(model, split, ONE, TASK, seed=seed).model for seed in (3, np.int64(3)))
    assert same_parameters(one, other)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*exact copies")
        for forget in (np.float32(0.1), np.int64(3), torch.tensor(3)):
            found = bench(
                [ONE],
                data=SOURCE,
                model="mlp",
                forget=forget,
                seeds=np.arange(1),
                recipe=Retrain(epochs=1, lr=0.1),
            )
            assert len(found.outcomes) == 3 and not found.failed


@pytest.mark.parametrize("label", ["", " ", "a|b", "a\nb", 1, None, "Original", "Retrain"])
def test_labels_that_no_table_can_show_are_refused(split, label):
    with pytest.raises(ExpungeError, match="label"):
        bench({label: ONE}, data=split, model="mlp")
    assert label_problems("fine tune, lr 0.1") == []


@pytest.mark.parametrize(
    ("forget", "words"),
    [
        (lambda train, test, seed: None, "returned NoneType; return a Split"),
        (lambda train: None, "failed: TypeError"),
    ],
)
def test_a_function_of_forget_is_named(forget, words):
    with pytest.raises(ExpungeError, match=words):
        bench([ONE], data=SOURCE, model="mlp", forget=forget)


# ---- what a method does


def losing(give, **attributes):
    def loss(self, run, forget, retain):
        return give(run.task.loss(run.model, retain))

    return type("Mine", (GradientMethod,), {"loss": loss, **attributes})(epochs=1)


@pytest.mark.parametrize(
    ("give", "words"),
    [
        (lambda x: None, "returned None; return one number"),
        (lambda x: x.mean().item(), r"returned a float; .* without .item\(\)"),
        (lambda x: (x.mean(),), "returned a tuple"),
        (lambda x: x, r"returned a tensor of the shape \(\d+,\); .*with .mean\(\)"),
        (lambda x: x.mean()[None], r"returned a tensor of the shape \(1,\)"),
        (lambda x: x.mean().detach(), "returned a tensor without a gradient"),
    ],
)
def test_a_loss_that_is_not_one_number_is_named(model, split, give, words):
    with pytest.raises(ExpungeError, match=f"Mine.loss {words}"):
        execute(model, split, losing(give), TASK)
    assert execute(model, split, losing(lambda x: x.mean()), TASK).ended == "finished"


def test_a_batch_that_the_schedule_does_not_give_is_named(model, split):
    def loss(self, run, forget, retain):
        return run.task.loss(run.model, forget).mean()

    mine = type("Mine", (GradientMethod,), {"loss": loss})
    with pytest.raises(ExpungeError, match="the schedule 'retain' gives no forget batch"):
        execute(model, split, mine, TASK)


def test_a_method_without_its_function_is_refused(model, split):
    for method, words in (
        (Method, "Method has no `apply`"),
        (GradientMethod, "GradientMethod has no `loss`"),
        (type("Empty", (GradientMethod,), {}), "Empty has no `loss`"),
    ):
        with pytest.raises(ExpungeError, match=words):
            execute(model, split, method, TASK)


@dataclass(frozen=True, kw_only=True)
class Edits(Method):
    what: str = "model"

    def apply(self, run):
        with torch.no_grad():
            next(run.model.parameters()).mul_(0.5)
            if self.what == "source":
                next(run.source.parameters()).add_(1)
            elif self.what == "none":
                run.model = None


def test_a_method_that_changes_the_passed_model_is_named(model, split):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        execute(model, split, Edits(), TASK)
        execute(model, split, ONE, TASK)
    with pytest.warns(RuntimeWarning, match=r"Edits changed the model that was passed in \(1 tensors"):
        execute(model, split, Edits(what="source"), TASK)
    with pytest.raises(ExpungeError, match=r"Edits set run.model to NoneType"):
        execute(model, split, Edits(what="none"), TASK)
