"""Classes of methods and measures that cannot work are refused where they are defined or first used."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, fields

import pytest
import torch
from torch import nn

from expunge import Classification, ExpungeError, GradientMethod, Measure, Method, SalUn, Split, execute, find
from expunge.bench.checks import field_problems
from expunge.cli.settings_flags import settings_flags
from expunge.data.convert import as_data
from expunge.training.method_class import SCHEDULES, check_method_class
from expunge.training.registry import METHODS, make
from expunge.training.schedule import steps_per_epoch


@pytest.mark.parametrize(
    ("attribute", "value", "words"),
    [
        ("schedule", "retian", "schedule is 'retian'; it must be one of 'forget', 'retain'"),
        ("schedule", None, "schedule is None"),
        ("needs", ("logit",), "needs names 'logit', which do not exist; known: 'loss'"),
        ("needs", "logits", "needs is 'logits'; it must be a tuple"),
        ("needs", None, "needs is None"),
        ("data", ("test",), "data names 'test'"),
        ("scenarios", "class", "scenarios is 'class'; it must be a tuple"),
        ("scenarios", ("klass",), "scenarios names 'klass'"),
        ("search", ["lr"], "search is "),
        ("search", {"lr": ()}, "search is "),
        ("search", {"lr": 0.1}, "search is "),
    ],
)
def test_a_wrong_attribute_is_refused_by_the_class_statement(attribute, value, words):
    with pytest.raises(TypeError) as refusal:
        type("Wrong", (GradientMethod,), {attribute: value})
    assert f"Wrong.{words}" in str(refusal.value)


def test_a_measure_needs_what_exists():
    with pytest.raises(TypeError, match=r"Wrong\.needs names 'logit'"):
        type("Wrong", (Measure,), {"name": "wrong", "glossary": "Wrong.", "needs": ("logit",)})


def test_every_schedule_has_steps_and_every_built_in_class_is_sound():
    run = type("R", (), {"split": type("S", (), {"forget": [1], "retain": [1, 2]})})
    assert all(steps_per_epoch(run, schedule, 1) for schedule in SCHEDULES)
    for cls in METHODS.classes().values():
        check_method_class(cls)


class Declares(GradientMethod):
    epochs: int = 1
    strength: float = 0.5


class Overrides(SalUn):
    lr = 5.0


@dataclass(frozen=True, kw_only=True)
class UnknownSearch(GradientMethod):
    search = {"rate": (1.0,)}  # noqa: RUF012


@dataclass(frozen=True, kw_only=True)
class Unreadable(GradientMethod):
    rate: NoSuchType = 1  # noqa: F821


@dataclass(frozen=True, kw_only=True)
class Sound(GradientMethod):
    strength: float = 0.5

    schedule = "mixed"
    search = {"strength": (0.1, 1.0)}  # noqa: RUF012


@pytest.mark.parametrize(
    ("cls", "words"),
    [
        (Declares, "Declares declares epochs, strength and is no dataclass"),
        (Overrides, "Overrides sets lr without a type, so the setting keeps its inherited default"),
        (type("Child", (Declares,), {}), "Declares declares epochs, strength"),
        (UnknownSearch, "UnknownSearch.search names 'rate', which are no fields"),
        (Unreadable, "an annotation of Unreadable cannot be read: NameError"),
    ],
)
@pytest.mark.parametrize("use", [find, make, lambda cls: make(cls())])
def test_fields_that_are_no_settings_are_refused_at_first_use(cls, words, use):
    with pytest.raises(ExpungeError) as refusal:
        use(cls)
    assert words in str(refusal.value)


def test_a_sound_class_is_taken_and_its_fields_count():
    assert make(Sound).strength == 0.5 and "strength" in {f.name for f in fields(find(Sound))}


@dataclass(frozen=True, kw_only=True)
class Required(GradientMethod):
    strength: float


@dataclass(frozen=True, kw_only=True)
class Refuses(GradientMethod):
    def __post_init__(self):
        raise KeyError("no")


def test_a_field_without_default_is_named_everywhere():
    for use in (make, settings_flags):
        with pytest.raises(
            ExpungeError, match=r"Required cannot be made: .*'strength'; give each field a default"
        ):
            use(Required)
    assert make(Required(strength=1.0)).strength == 1.0
    assert "cannot be made" in field_problems("Required", Required, {})[0]
    assert field_problems("Required", Required, {"strength": 1.0}) == []
    with pytest.raises(ExpungeError, match="Refuses cannot be made: KeyError"):
        make(Refuses)


@pytest.mark.parametrize(
    ("returned", "words"), [("wrong", "returned 'wrong'"), (None, "returned None"), ([1], r"returned \[1\]")]
)
def test_problems_that_are_no_list_of_sentences_are_named(returned, words):
    @dataclass(frozen=True, kw_only=True)
    class Talks(Method):
        def problems(self):
            return returned

    data, test = (as_data((torch.ones(n, 2), torch.arange(n) % 2)) for n in (20, 10))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        split = Split.random(data, test, 0.1)
    with pytest.raises(ExpungeError, match=rf"Talks.problems\(\) {words}"):
        execute(nn.Linear(2, 2), split, Talks, Classification(2))


def test_a_base_class_that_is_no_method_may_say_what_methods_define():
    class Named:
        share: float

    @dataclass(frozen=True, kw_only=True)
    class Mixed(Named, SalUn):
        share: float = 0.5

    check_method_class(Mixed)
    assert Mixed(share=0.2).share == 0.2
