"""`check_method`: built-in methods pass it, and each broken promise is one problem."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from expunge import ExpungeError, GradientMethod, Method, Split, Task, check_method, find
from expunge.data.tensors import TensorData
from expunge.masks.mask import random_mask
from expunge.torch_utils.module_state import snapshot


class Squares(Task):
    """Squared error of one output."""

    name = "squares"

    def loss(self, model, batch):
        return (model(batch.x)[:, 0] - batch.y).square()


@pytest.fixture
def setting():
    x = torch.randn(60, 3, generator=torch.Generator().manual_seed(0))
    data = TensorData(x[:48], x[:48].sum(1)), TensorData(x[48:], x[48:].sum(1))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))
    return SimpleNamespace(model=model, split=Split.random(*data, share=0.2), task=Squares())


@dataclass(frozen=True, kw_only=True)
class Descent(GradientMethod):
    """Descend on the retain set."""

    epochs: int = 2
    batch_size: int = 16

    def loss(self, run, forget, retain):
        return run.task.loss(run.model, retain).mean()


@dataclass(frozen=True, kw_only=True)
class Edit(Method):
    """Halve the last layer."""

    def apply(self, run):
        with torch.no_grad():
            run.model[-1].weight.mul_(0.5)


def problems_of(method, setting):
    with pytest.raises(ExpungeError) as refusal:
        check_method(method, setting.model, setting.split, setting.task)
    return refusal.value.problems


@pytest.mark.parametrize("method", [Descent(), Descent, Edit(), find("gradient_ascent")(epochs=1, lr=1e-3)])
def test_a_sound_method_passes_and_changes_nothing(setting, method):
    before, random_state = snapshot(setting.model), torch.get_rng_state()
    check_method(method, setting.model, setting.split, setting.task)
    assert all(torch.equal(v, before[k]) for k, v in setting.model.state_dict().items())
    assert all(p.requires_grad and p.grad is None for p in setting.model.parameters())
    assert torch.equal(random_state, torch.get_rng_state())


def test_fields_without_the_decorator_are_no_settings(setting):
    class Bare(Descent):
        strength: float = 2.0

    (problem,) = problems_of(Bare(), setting)
    assert "Bare declares strength and is no dataclass" in problem


def test_a_method_that_does_nothing_has_no_result(setting):
    class Nothing(Edit):
        def apply(self, run):
            """Leave the model as it is."""

    (problem,) = problems_of(Nothing(), setting)
    assert "a run of Nothing has no result: unchanged" in problem


def test_a_changed_input_is_a_problem(setting):
    class ChangesInput(Edit):
        def apply(self, run):
            with torch.no_grad():
                run.model[-1].weight.mul_(0.5)
                run.original[-1].bias.add_(1)

    (problem,) = problems_of(ChangesInput(), setting)
    assert "changes the model that is passed in" in problem


def test_randomness_without_a_seed_is_a_problem(setting):
    noise = np.random.default_rng(0)

    class Random(Edit):
        def apply(self, run):
            with torch.no_grad():
                run.model[-1].bias.add_(noise.random())

    (problem,) = problems_of(Random(), setting)
    assert "two runs of Random with seed 0 give different models" in problem


def test_a_changed_frozen_parameter_is_a_problem(setting):
    class Thaws(Edit):
        def apply(self, run):
            with torch.no_grad():
                run.model[0].weight.mul_(0.5)

    (problem,) = problems_of(Thaws(), setting)
    assert "Thaws changes 0.weight, which is frozen" in problem


def test_a_step_outside_the_mask_is_a_problem(setting):
    class Escapes(Descent):
        def after_step(self, run, optimizer):
            with torch.no_grad():
                run.model[-1].weight.mul_(0.9)

    (problem,) = problems_of(Escapes(), setting)
    assert "Escapes changes parameters outside the mask (2.weight)" in problem
    weight = random_mask(setting.model, 0.5, 0)["2.weight"]
    assert weight.any() and not weight.all()


def test_state_outside_the_run_does_not_resume(setting):
    steps = []

    class Counts(Descent):
        def prepare(self, run):
            steps.clear()

        def loss(self, run, forget, retain):
            steps.append(1)
            return super().loss(run, forget, retain) * len(steps)

    (problem,) = problems_of(Counts(), setting)
    assert "a run of Counts that resumes gives another model" in problem


def test_a_final_edit_may_lie_outside_the_mask(setting):
    class Finishes(Descent):
        def finish(self, run):
            with torch.no_grad():
                run.model[-1].weight.mul_(0.9)

    check_method(Finishes(), setting.model, setting.split, setting.task)


def test_a_method_that_cannot_run_is_refused(setting):
    assert "needs what the task 'squares' does not offer" in problems_of("salun", setting)[0]
