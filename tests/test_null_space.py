"""Null-space projection: directions by hand, outputs that stay, and methods it refuses."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from expunge.data.past_requests import PastRequest, remember_requests, requests_of
from expunge.errors import ExpungeError
from expunge.methods._null_space_directions import main_directions, project, retained_directions, rows_of
from expunge.methods.null_space import NullSpace
from expunge.training.execute import execute
from small_problem import everything, images, vectors


def test_directions_by_hand():
    # squares 9, 4 and 1 along the axes
    square = torch.diag(torch.tensor([4.0, 9.0, 1.0]))
    for energy, axes in ((0.5, [1]), (0.64, [1]), (0.65, [1, 0]), (0.92, [1, 0]), (1.0, [1, 0, 2])):
        assert torch.allclose(
            main_directions(square, energy).abs(), torch.eye(3, dtype=torch.float64)[:, axes]
        )


@pytest.mark.parametrize(
    "layer",
    [nn.Conv2d(3, 4, 3, padding=1, stride=2), nn.Conv2d(3, 4, 2, dilation=2, bias=False), nn.Linear(6, 5)],
)
def test_rows_times_weights_are_the_outputs(layer):
    x = torch.randn(2, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    rows = rows_of(layer, x)
    bias = [] if layer.bias is None else [layer.bias[:, None]]
    out = rows @ torch.cat([layer.weight.flatten(1), *bias], 1).T
    expected = layer(x)
    expected = expected.flatten(2).transpose(1, 2) if isinstance(layer, nn.Conv2d) else expected
    assert torch.allclose(out, expected.reshape(len(out), -1), atol=1e-5)


@pytest.mark.parametrize("make", [images, vectors])
def test_projected_changes_leave_retained_inputs_of_a_layer_alone(make):
    problem = make()
    run = problem.run()
    retain, forget = (everything(s) for s in (problem.split.retain, problem.split.forget))
    few = problem.split.retain.take(torch.arange(4))
    directions = retained_directions(run, few, 1.0)
    first = next(iter(directions))
    before = run.original.get_submodule(first)
    g = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in run.model.parameters():
            parameter += torch.randn(parameter.shape, generator=g, dtype=torch.float64)
    project(run, directions)
    after = run.model.get_submodule(first)
    x = everything(few).x
    if make is vectors:
        assert torch.allclose(after(x), before(x), atol=1e-9)
        # negative control: other inputs do feel the change, which is no zero
        assert not torch.allclose(after(forget.x), before(forget.x), atol=1e-2)
    for name, parameter in run.model.named_parameters():
        if name.startswith("1."):
            assert torch.equal(parameter, run.original.get_parameter(name)), "batch norm stays"
    assert len(retain) > 4


def test_projection_equals_the_literal_product():
    run = vectors().run()
    u = torch.linalg.qr(torch.randn(6, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)).Q
    old = run.original[0]
    with torch.no_grad():
        run.model[0].weight += 1
        run.model[0].bias -= 2
        run.model[2].weight += 1
    project(run, {"0": u})
    change = torch.cat([torch.ones(6, 5), torch.full((6, 1), -2.0)], 1).double() @ (
        torch.eye(6).double() - u @ u.T
    )
    assert torch.allclose(run.model[0].weight - old.weight, change[:, :5])
    assert torch.allclose(run.model[0].bias - old.bias, change[:, 5])
    assert torch.equal(run.model[2].weight, run.original[2].weight), "no directions, no change"


def test_the_constraint_keeps_retained_outputs_closer():
    model, split, task = vectors()
    retain, changes = everything(split.retain), {}
    for energy in (0.01, 0.9):
        run = execute(model, split, NullSpace(lr=0.1, epochs=10, energy=energy), task)
        changes[energy] = F.mse_loss(run.model(retain.x), model(retain.x)).item()
        assert run.memo["rank"]["0"][1] == 6 and run.step == 10
    assert 0 < changes[0.9] < changes[0.01] / 2
    known = copy.deepcopy(model)
    remember_requests(known, [PastRequest("one", "ids", "untrain", (str(int(split.retain.index[0])),))])
    with pytest.warns(RuntimeWarning, match="unchanged"):
        run = execute(known, split, NullSpace(energy=1.0, epochs=2), task)
    # the run answers nothing, and its model knows what was answered before
    assert requests_of(run.model) == requests_of(known) != ()


@pytest.mark.parametrize(
    ("base", "message"),
    [("salun", "mask"), ("ssd", "gradient steps"), ("retrain", "gradient steps"), ("no", "base is 'no'")],
)
def test_methods_that_cannot_be_constrained(base, message):
    problem = vectors()
    with pytest.raises(ExpungeError, match=message):
        execute(problem.model, problem.split, NullSpace(base=base), problem.task)
