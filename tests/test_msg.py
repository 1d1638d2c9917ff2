"""MSG: which weights are drawn anew, how, and how fast the others move."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from expunge.errors import ModelError
from expunge.masks.mask import random_mask
from expunge.methods.msg import MSG, edited_weights, smallest
from small_problem import everything, gradients, images, vectors

CONVOLUTIONS = ("0.weight", "3.weight")


def test_exactly_the_share_of_smallest_magnitude_is_selected():
    values = torch.tensor([[3.0, -1.0], [0.5, -2.0]])
    assert smallest(values, 0.5).tolist() == [[False, True], [True, False]]
    assert smallest(torch.zeros(10), 0.3).sum() == 3
    assert not smallest(values, 0.0).any() and smallest(values, 1.0).all()


def prepared(method, **options):
    run = images(random=True).run(**options)
    method.prepare(run)
    return run, images(random=True).model


def test_only_selected_weights_of_convolutions_change():
    run, model = prepared(MSG(reinit=0.3))
    for name, weight in run.model.named_parameters():
        before, selected = model.get_parameter(name), run.memo["selected"].get(name)
        changed = weight != before
        assert torch.equal(changed, selected) if name in CONVOLUTIONS else not changed.any(), name
    assert {n: int(m.sum()) for n, m in run.memo["selected"].items()} == {"0.weight": 32, "3.weight": 43}


def test_selection_equals_its_literal_form():
    run, model = prepared(MSG(reinit=0.3))
    split, task = run.split, run.task
    g = torch.Generator()
    g.set_state(images(random=True).run().generator("part").get_state())
    order = torch.randperm(len(split.retain), generator=g)[: len(split.forget)].sort().values
    part, forget = everything(split.retain.take(order)), everything(split.forget)
    r, f = (gradients(task.loss(model, b).mean(), model) for b in (part, forget))
    for name in CONVOLUTIONS:
        difference = (r[name] - f[name]).abs().flatten()
        limit = difference.sort().values[round(0.3 * len(difference)) - 1]
        assert torch.equal(run.memo["selected"][name].flatten(), difference <= limit)
        # negative control: the gradient of one set alone selects others
        assert not torch.equal(smallest(r[name], 0.3), run.memo["selected"][name])


def test_new_weights_have_the_deviation_of_kaiming():
    run, _ = prepared(MSG(reinit=1.0))
    weights = run.model.get_parameter("3.weight")
    assert weights.std().item() == pytest.approx((2 / (4 * 9)) ** 0.5, rel=0.2)


def test_other_weights_of_convolutions_move_at_a_tenth():
    method = MSG(reinit=0.3)
    run, _ = prepared(method)
    batch = everything(run.split.retain)
    plain = gradients(run.task.loss(run.model, batch).mean(), run.model)
    scaled = gradients(method.loss(run, None, batch), run.model)
    for name, g in plain.items():
        selected = run.memo["selected"].get(name, torch.ones_like(g, dtype=torch.bool))
        assert torch.allclose(scaled[name], torch.where(selected, g, g / 10), atol=1e-12), name


def test_a_mask_limits_what_is_drawn_anew():
    mask = random_mask(images().model, 0.5, 0)
    run, model = prepared(MSG(reinit=1.0), mask=mask)
    for name in CONVOLUTIONS:
        assert torch.equal(run.model.get_parameter(name) != model.get_parameter(name), mask[name])


def test_models_without_convolutions():
    run = vectors().run()
    assert list(edited_weights(run)) == ["0.weight"], "the head stays"
    run.model = nn.Sequential(nn.Linear(5, 4))
    assert list(edited_weights(run)) == ["0.weight"], "there is nothing else"
    run.model = nn.Sequential(nn.Embedding(5, 4))
    with pytest.raises(ModelError, match="neither"):
        edited_weights(run)
