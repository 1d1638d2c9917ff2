"""WF-Net: gates in the literal form, folded into weights, and switched at run time."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from expunge.errors import ExpungeError, ModelError
from expunge.methods._filtered_model import FilteredModel
from expunge.methods.delete import decoupled_loss
from expunge.methods.wf_net import WFNet, _Gates, gated_layers
from expunge.torch_utils.module_state import snapshot
from expunge.training.execute import execute
from small_problem import everything, images, vectors


def random_gates(model, head="5"):
    g = torch.Generator().manual_seed(0)
    layers = gated_layers(model, head)
    return {n: torch.rand(4, len(m.weight), generator=g, dtype=torch.float64) for n, m in layers.items()}


def folded(model, gates, row):
    """The model with the gates of one row multiplied into its weights, filter by filter."""
    model = copy.deepcopy(model)
    with torch.no_grad():
        for name, gate in gates.items():
            layer = model.get_submodule(name)
            for o in range(len(layer.weight)):
                layer.weight[o] *= gate[row, o]
                if layer.bias is not None:
                    layer.bias[o] *= gate[row, o]
    return model


def test_gates_equal_scaled_filters():
    problem = images()
    model, x = problem.model, everything(problem.split.retain).x
    gates = random_gates(model)
    assert list(gates) == ["0", "3"], "the head and batch norm get none"
    filtered = FilteredModel(model, gates).eval()
    assert torch.equal(filtered(x), model(x))
    for row in (0, 2):
        assert torch.allclose(filtered.switch(row)(x), folded(model, gates, row)(x))
    both = folded(folded(model, gates, 1), gates, 3)
    assert torch.allclose(filtered.switch(1, 3)(x), both(x))
    rows = torch.arange(len(x)) % 4
    mixed = filtered(x, per_sample=rows)
    for row in range(4):
        assert torch.allclose(mixed[rows == row], folded(model, gates, row)(x[rows == row]))
    assert torch.equal(filtered.switch()(x), model(x))
    with pytest.raises(ExpungeError, match="no gates"):
        filtered.switch(4)
    assert not any(m._forward_hooks for m in model.modules())


def test_loss_equals_its_literal_form():
    run = images().run()
    gates = random_gates(run.model)
    run.source, run.model = run.model, FilteredModel(run.model, gates).eval()
    retain = everything(run.split.retain)
    loss = _Gates(forget_weight=3.0).loss(run, None, retain)
    g = images().run().generator("rows")
    own = torch.rand(len(retain), generator=g) < 0.5
    other, total = run.task.other_labels(retain.y, g), 0
    for i in range(len(retain)):
        row = int(retain.y[i] if own[i] else other[i])
        logits = folded(run.source, gates, row)(retain.x[i : i + 1])
        y = retain.y[i : i + 1]
        total += (
            3 * decoupled_loss(run.source(retain.x[i : i + 1]), logits, y)
            if own[i]
            else F.cross_entropy(logits, y)
        )
    assert 0 < int(own.sum()) < len(own) and loss.item() == pytest.approx(
        total.item() / len(retain), rel=1e-6
    )


def test_a_request_multiplies_the_row_of_its_class_into_the_weights():
    model, split, task = images()
    before = snapshot(model)
    run = execute(model, split, WFNet(epochs=2, lr=0.2), task)
    gates = run.memo["gates"]
    assert list(gates) == ["0", "3"], "the head and batch norm get none"
    assert all(g.min() >= 0 and g.max() <= 1 for g in gates.values())
    assert any((g < 1).any() for g in gates.values())
    expected = snapshot(folded(model, gates, 1))
    assert all(torch.allclose(v, expected[n]) for n, v in snapshot(run.model).items())
    assert all(torch.equal(v, before[n]) for n, v in snapshot(model).items())
    assert all(p.requires_grad for p in run.model.parameters())
    # the other rows are learned in the same round
    assert any((g[[0, 2, 3]] < 1).any() for g in gates.values())


def test_scenarios_and_models_that_it_does_not_serve():
    model, split, task = vectors(random=True)
    with pytest.raises(ExpungeError, match="random"):
        execute(model, split, WFNet(), task)
    with pytest.raises(ModelError, match="before the head"):
        gated_layers(nn.Sequential(nn.Linear(3, 2)), "0")
    assert list(gated_layers(nn.Sequential(nn.LayerNorm(3), nn.Linear(3, 2)), "1")) == ["0"]
