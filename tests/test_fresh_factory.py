"""A factory that returns a trained model is refused: the reference would have seen the forget set."""

from __future__ import annotations

import copy
import pickle
import warnings
from functools import partial

import pytest
import torch
from torch import nn

from expunge import Classification, Retrain, SalUn, Split, bench, execute, experiment, train
from expunge.errors import ExpungeError, ModelError
from expunge.models import build
from expunge.pipeline.factory import seeded_factory
from expunge.pipeline.pipeline import Pipeline
from expunge.sources import load
from expunge.torch_utils.module_state import same_parameters, varies

ONE = build("mlp", num_classes=10, shape=(1, 8, 8))
RECIPE = Retrain(epochs=1, lr=0.1, batch_size=64)


@pytest.fixture(scope="module")
def world():
    source = load("digits?limit=150")
    split = Split.by_class(source.train, source.test, 3)
    return train(fresh(), split, RECIPE, Classification(10)).model, split, Classification(10)


def fresh():
    return build("mlp", num_classes=10, shape=(1, 8, 8))


@pytest.mark.parametrize(
    ("factory", "words"),
    [
        (lambda model: lambda: model, "the same model twice"),
        (lambda model: nn.Linear, "factory failed: TypeError: .*pass a function without arguments"),
        (
            lambda model: lambda: copy.deepcopy(model),
            "exactly the parameters of the model that was passed in",
        ),
        (lambda model: seeded_factory(lambda: model, 0), "the same model twice"),
        (
            lambda model: seeded_factory(lambda: copy.deepcopy(model), 0),
            r"exactly the parameters of the model that was passed in: 6 of 6 trainable tensors.*load no checkpoint",
        ),
        # the body is fresh, and the head is trained
        (
            lambda model: seeded_factory(lambda: with_part(model, "head"), 0),
            "with the head of the model that",
        ),
        (lambda model: lambda: with_part(model, "head"), "with the head of the model that"),
        (lambda model: lambda: nn.Linear(2, 2), "another architecture"),
        (lambda model: lambda: model.state_dict(), "returned OrderedDict"),
        (lambda model: lambda: type(model), "returned type"),
    ],
)
def test_a_factory_that_is_not_fresh_is_refused(world, factory, words):
    model, split, task = world
    with pytest.raises(ModelError, match=words):
        execute(model, split, RECIPE, task, factory=factory(model))


def with_part(model, part):
    """A fresh model with one part of a trained one."""
    made = fresh()
    taken = {n: v for n, v in model.state_dict().items() if n.startswith(part)}
    assert taken
    made.load_state_dict(taken, strict=False)
    return made


@pytest.mark.parametrize("seed", [None, 5])
def test_a_body_that_is_equal_is_warned_of_and_noted(world, seed):
    model, split, task = world
    factory = partial(with_part, model, "features.1")
    factory = factory if seed is None else seeded_factory(factory, seed)
    with pytest.warns(RuntimeWarning, match=r"2 of 6 trainable tensors are equal.*'features.1.weight'"):
        run = execute(model, split, RECIPE, task, factory=factory)
    assert run.ended == "finished"
    assert any("features.1.weight" in note for note in run.notes)


def test_a_frozen_body_and_constants_say_nothing(world):
    model, split, task = world
    model = copy.deepcopy(model)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.startswith("head"))
    factory = seeded_factory(lambda: with_part(model, "features"), 5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert execute(model, split, RECIPE, task, factory=factory).ended == "finished"


def test_the_original_is_compared_too(world):
    """After a first request, the model that is passed in is no longer the one that a checkpoint of the user holds."""
    model, split, task = world
    later = execute(model, split, "finetune", task).model
    factory = seeded_factory(lambda: copy.deepcopy(model), 0)
    with pytest.warns(RuntimeWarning, match="the same parameters for each seed"):
        assert execute(later, split, RECIPE, task, factory=factory).ended == "finished"
    factory = seeded_factory(factory.factory, 0, trained=lambda: dict(model.named_parameters()))
    with pytest.raises(ModelError, match="exactly the parameters of the original"):
        execute(later, split, RECIPE, task, factory=factory)


def test_a_reference_alone_starts_from_any_parameters_with_a_warning(world):
    """`expunge train --without-forget` has no trained model to compare with."""
    model, split, task = world
    loads = seeded_factory(lambda: copy.deepcopy(model), 0)
    with pytest.warns(RuntimeWarning, match="the same parameters for each seed"):
        outcome = Pipeline(split=split, task=task, factory=loads, recipe=RECIPE).train_alone("retrain")
    assert any("the same parameters" in note for note in outcome.record.details["notes"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fine = Pipeline(split=split, task=task, factory=seeded_factory(fresh, 0), recipe=RECIPE)
        outcome = fine.train_alone("retrain")
    alone = execute(fresh(), split, RECIPE, task, factory=seeded_factory(fresh, 0))
    assert same_parameters(outcome.model, alone.model)


def test_a_pipeline_refuses_a_factory_that_loads_its_original(world):
    model, split, task = world
    pipeline = Pipeline(
        split=split, task=task, factory=seeded_factory(lambda: copy.deepcopy(model), 0), recipe=RECIPE
    )
    with pytest.raises(ModelError, match="exactly the parameters"):
        pipeline.retrain(model)


def test_another_seed_makes_another_model():
    factory = seeded_factory(fresh, 5)
    assert same_parameters(factory(), factory())
    assert not same_parameters(factory(), factory.with_seed(6)())
    assert same_parameters(factory.with_seed(6)(), seeded_factory(fresh, 6)())


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.0, 0.0], False),
        ([1.0, 1.0], False),
        ([1.0, 2.0], True),
        ([0.5], True),
        ([1.0], False),
        ([], False),
    ],
)
def test_a_constant_tells_nothing(values, expected):
    assert varies(torch.tensor(values)) is expected


@pytest.mark.parametrize("factory", [fresh, seeded_factory(fresh, 5)])
def test_a_fresh_factory_is_taken_and_the_second_call_moves_no_random_stream(world, factory):
    model, split, task = world
    run = execute(model, split, RECIPE, task, factory=factory)
    assert run.ended == "finished"
    assert same_parameters(run.model, execute(model, split, RECIPE, task, factory=factory).model)


def test_a_reference_of_an_untrained_model_with_its_own_seed_is_taken(world):
    _, split, task = world
    factory = seeded_factory(fresh, 1)
    assert execute(factory(), split, RECIPE, task, factory=factory).ended == "finished"


def test_an_original_is_trained_by_a_recipe_alone(world):
    model, split, task = world
    with pytest.raises(ExpungeError, match=r"recipe is SalUn.*does not train an original") as refusal:
        train(model, split, SalUn(), task, factory=fresh)
    assert "set fresh=True, or leave factory out" in str(refusal.value)


def test_a_run_and_a_comparison_can_be_pickled(world):
    model, split, task = world
    run = train(model, split, RECIPE, task)
    assert same_parameters(pickle.loads(pickle.dumps(run)).model, run.model)
    found = compare(build_mlp)
    assert pickle.loads(pickle.dumps(found)).table() == found.table()


def build_mlp(num_classes, shape):
    return build("mlp", num_classes=num_classes, shape=shape)


def compare(model, **options):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*exact copies")
        return bench(["finetune"], data="digits?limit=150", model=model, forget=3, recipe=RECIPE, **options)


def test_a_function_gets_what_it_names(world):
    assert [o.record.model["name"] for o in compare(build_mlp).outcomes] == ["build_mlp"] * 3


def needs_more(num_classes, width):
    return fresh()


def fails():
    raise KeyError("no")


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (needs_more, "needs_more needs the arguments width"),
        (fails, "fails failed: KeyError"),
        (lambda: None, "returned NoneType"),
        (nn.Identity, "a model without parameters"),
        (lambda: ONE, "returned the same model twice"),
    ],
)
def test_a_function_that_makes_no_fresh_model_is_refused_before_training(model, words):
    with pytest.raises(ModelError, match=words):
        compare(model)


def test_equal_parameters_for_each_seed_are_warned_of(world):
    trained = world[0]
    with pytest.warns(RuntimeWarning, match="the same parameters for each seed"):
        compare(lambda: copy.deepcopy(trained))


def test_an_experiment_does_not_take_the_original_as_fresh(world):
    model, split, task = world
    with pytest.raises(ModelError, match="exactly the parameters"):
        experiment(model, split, RECIPE, task, kind="retrain", factory=lambda: copy.deepcopy(model))
