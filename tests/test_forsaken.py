"""Forsaken: the targets, the proximal step, and the forgetting rate by hand."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from expunge.audit.measures.forgetting_rate import ForgettingRate
from expunge.errors import ExpungeError
from expunge.methods.forsaken import Forsaken, unseen_outputs
from expunge.training.execute import execute
from small_problem import everything, vectors


def test_targets_are_mean_outputs_of_unseen_samples():
    p = torch.tensor([[0.8, 0.1, 0.1], [0.6, 0.3, 0.1], [0.2, 0.7, 0.1], [0.1, 0.1, 0.8]])
    labels = torch.tensor([0, 0, 1, 2])
    expected = [[0.7, 0.2, 0.1], [0.2, 0.7, 0.1], [0.1, 0.1, 0.8]]
    assert torch.allclose(unseen_outputs(p, labels, ()), torch.tensor(expected))
    without_two = unseen_outputs(p, labels, (2,))
    assert torch.allclose(without_two[2], p[:3].mean(0)) and torch.allclose(without_two[0], p[:2].mean(0))
    assert torch.allclose(unseen_outputs(p[:3], labels[:3], ())[2], p[:3].mean(0))


def test_loss_equals_its_literal_form():
    run, method = vectors(random=True).run(), Forsaken()
    method.prepare(run)
    forget = everything(run.split.forget)
    unseen = everything(run.split.validation)
    outputs, total = run.model(unseen.x).softmax(1), 0.0
    for x, y in zip(forget.x, forget.y, strict=True):
        target = outputs[unseen.y == y].mean(0)
        total += float((target * (target.log() - run.model(x[None])[0].log_softmax(0))).sum().detach())
    assert method.loss(run, forget, None).item() == pytest.approx(total / len(forget), rel=1e-5)


def test_the_penalty_is_a_proximal_step():
    run, method = vectors().run(), Forsaken(penalty=2.0)
    weight = run.model[0].bias
    start = weight.detach().clone()
    with torch.no_grad():
        weight += torch.tensor([0.3, -0.3, 0.1, -0.1, 0.0, 0.2])
    method.after_step(run, SimpleNamespace(param_groups=[{"lr": 0.1}]))
    expected = torch.tensor([0.1, -0.1, 0.0, 0.0, 0.0, 0.0], dtype=torch.float64)
    assert torch.allclose(weight - start, expected, atol=1e-6) and torch.equal(weight[2:5], start[2:5])


def test_a_larger_penalty_changes_fewer_weights():
    model, split, task = vectors()
    method = Forsaken(epochs=4, lr=0.1, max_drop=100.0)
    shares = [method.details(execute(model, split, replace(method, penalty=p), task)) for p in (0.0, 0.05)]
    few, many = shares[1]["forsaken"]["changed"], shares[0]["forsaken"]["changed"]
    assert 0 < few < many == 1


def test_without_unseen_samples_it_is_refused():
    model, split, task = vectors(random=True)
    bare = replace(split, validation=split.validation.take(slice(0)), held_out=split.held_out[:0])
    with pytest.raises(ExpungeError, match="--validation-from test"):
        execute(model, bare, Forsaken(), task)


def test_forgetting_rate_by_hand():
    def evaluation(*called):
        return SimpleNamespace(forget=None, called_nonmember=lambda _: np.array(called, dtype=bool))

    before, after = evaluation(0, 0, 0, 0, 1), evaluation(1, 1, 1, 0, 0)
    # 3 non-members after, 1 before, 4 members before
    assert ForgettingRate().compute(after, before, None, None) == pytest.approx(50)
    assert ForgettingRate().compute(before, before, None, None) == 0
    assert ForgettingRate().compute(after, evaluation(1, 1, 1, 1, 1), None, None) is None
    assert ForgettingRate().compute(after, None, None, None) is None
