"""IPRU: the vector on the inputs, frozen weights, and a second request."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F

from expunge.errors import ExpungeError
from expunge.methods.delete import decoupled_loss
from expunge.methods.ipru import IPRU, _Vector, with_forget_vector
from expunge.torch_utils.module_state import snapshot
from expunge.training.execute import execute
from small_problem import everything, images, vectors


def test_the_vector_is_added_to_every_input_also_of_a_copy():
    problem = vectors()
    x, v = everything(problem.split.retain).x, torch.arange(5.0, dtype=torch.float64)
    model = copy.deepcopy(with_forget_vector(problem.model, v))
    assert torch.equal(model(x), problem.model(x + v))
    assert torch.equal(with_forget_vector(model, 2 * v)(x), problem.model(x + 2 * v)), (
        "replaced, not added twice"
    )
    assert torch.equal(problem.model(x), vectors().model(x)) and "forget_vector" in model.state_dict()


def test_only_the_vector_changes():
    for problem in (images(), vectors(random=True)):
        before = snapshot(problem.model)
        run = execute(problem.model, problem.split, IPRU(epochs=2), problem.task)
        after = snapshot(run.model)
        vector = after.pop("forget_vector")
        assert vector.shape == everything(problem.split.forget).x.shape[1:] and vector.any()
        assert run.memo["norm"] == pytest.approx(vector.norm().item())
        assert all(torch.equal(v, before[n]) for n, v in after.items())
        assert all(p.requires_grad for p in run.model.parameters())


def test_one_step_equals_its_literal_form():
    model, split, task = vectors()
    method = IPRU(epochs=1, batch_size=1000, optimizer="sgd", lr=0.1, forget_weight=2.0)
    run = execute(model, split, method, task)
    forget, retain = everything(split.forget), everything(split.retain)
    v = torch.zeros(5, dtype=torch.float64, requires_grad=True)
    lost = decoupled_loss(model(forget.x).detach(), model(forget.x + v), forget.y).mean()
    loss = F.cross_entropy(model(retain.x + v), retain.y) + 2 * lost
    (gradient,) = torch.autograd.grad(loss, v)
    assert torch.allclose(run.model.forget_vector, -0.1 * gradient, atol=1e-9)
    assert _Vector().frozen(run) == {"0.weight", "0.bias", "2.weight", "2.bias"}


def test_a_second_run_continues_from_the_first_vector():
    model, split, task = vectors()
    first = execute(model, split, IPRU(epochs=1), task).model
    with pytest.warns(RuntimeWarning, match="unchanged"):
        second = execute(first, split, IPRU(epochs=1, lr=0.0), task, seed=1).model
    assert torch.equal(second.forget_vector, first.forget_vector) and len(second._forward_pre_hooks) == 1


def test_other_inputs_are_refused():
    problem = vectors()
    data = problem.split.forget.data
    data.x = (10 * data.x).long()
    with pytest.raises(ExpungeError, match="images"):
        IPRU().apply(problem.run())
