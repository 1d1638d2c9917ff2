"""Scissorhands: which weights are drawn anew, the projection by hand, and the gradient of a step."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from expunge.errors import ModelError
from expunge.masks.mask import random_mask
from expunge.methods.scissorhands import Scissorhands, projection
from expunge.torch_utils.module_state import evaluating
from small_problem import everything, gradients, images


def projected(g, g_o, margin):
    g, g_o = torch.tensor(g), torch.tensor(g_o)
    v = projection(g @ g_o, g_o @ g_o, margin)
    return v.item(), (g + v * g_o).tolist()


def test_projection_by_hand():
    assert projected([1.0, 0.0], [-1.0, 1.0], 0.0) == (0.5, [0.5, 0.5])
    v, after = projected([1.0, 0.0], [-0.1, 1.0], 0.0)
    assert v == pytest.approx(0.0990, abs=1e-4) and after[0] * -0.1 + after[1] == pytest.approx(0, abs=1e-6)
    # the margin of the released code adds half of g_o however small the conflict is
    v, after = projected([1.0, 0.0], [-0.1, 1.0], 0.5)
    assert v == 0.5 and after == pytest.approx([0.95, 0.5])
    assert projected([1.0, 0.0], [1.0, 1.0], 0.5) == (0, [1, 0])
    assert projected([1.0, 0.0], [0.0, 0.0], 0.5) == (0, [1, 0])


def test_the_most_salient_share_is_drawn_anew():
    problem = images()
    run, model = problem.run(), problem.model
    Scissorhands(reinit=0.1).prepare(run)
    g = gradients(problem.task.loss(model, everything(problem.split.forget)).mean(), model)
    names = ["0.weight", "0.bias", "3.weight", "5.weight", "5.bias"]
    scores = torch.cat([(model.get_parameter(n) * g[n]).abs().flatten() for n in names])
    limit = scores.sort(descending=True).values[round(0.1 * len(scores)) - 1]
    for name, weight in run.model.named_parameters():
        changed = weight != model.get_parameter(name)
        expected = (model.get_parameter(name) * g[name]).abs() >= limit if name in names else changed & False
        assert torch.equal(changed, expected), name
        if weight.ndim == 1:
            assert not weight[changed].any(), "new biases are 0"
    fresh = run.model.get_parameter("5.weight")
    assert fresh[fresh != model.get_parameter("5.weight")].abs().max() <= 1 / 64**0.5
    assert sum(run.memo["redrawn"].values()) == round(0.1 * len(scores))


def test_a_mask_limits_what_is_drawn_anew():
    mask = random_mask(images().model, 0.5, 0)
    run = images().run(mask=mask)
    Scissorhands(reinit=1.0).prepare(run)
    assert torch.equal(
        run.model.get_parameter("3.weight") != images().model.get_parameter("3.weight"), mask["3.weight"]
    )


@pytest.mark.parametrize("masked", [False, True])
def test_gradient_of_a_step_equals_its_literal_form(masked):
    method, conflicts = Scissorhands(ascent=0.0, batch_size=1000), []
    mask = random_mask(images().model, 0.5, 0) if masked else None
    for sign in (1, -1):
        run = images().run(mask=mask)
        forget, retain = everything(run.split.forget), everything(run.split.retain)
        next(method.pairs(run))
        with evaluating(run.model):
            memory = gradients(-run.task.loss(run.model, forget).mean(), run.model)
            g = gradients(run.task.loss(run.model, retain).mean(), run.model)
        for n in memory:
            free = 1 if mask is None else mask[n]
            g[n], memory[n] = g[n] * free, memory[n] * free
            assert torch.allclose(run.memo["memory"][n], memory[n], atol=1e-12)
            memory[n] = run.memo["memory"][n] = sign * memory[n]
        product = sum((g[n] * memory[n]).sum() for n in g)
        conflicts.append(bool(product < 0))
        v = max(0, -product / sum(m.square().sum() for m in memory.values()))
        with evaluating(run.model):
            got = gradients(method.loss(run, forget, retain), run.model)
        assert all(torch.allclose(got[n], g[n] + v * memory[n], atol=1e-9) for n in g)
    assert sorted(conflicts) == [False, True]


def test_a_model_without_layers_to_draw_anew_is_refused():
    run = images().run()
    run.model = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(108)).double()
    run.task = type("Sum", (), {"loss": lambda self, m, b: m(b.x).sum(1), "offers": ()})()
    with pytest.raises(ModelError, match="none that may move"):
        Scissorhands().prepare(run)
