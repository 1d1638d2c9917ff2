"""GA with a bound: which samples still contribute, and that the loss stays bounded."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from expunge.errors import ExpungeError
from expunge.methods.gradient_ascent import GradientAscent
from expunge.training.execute import execute
from small_problem import everything, gradients, vectors


def test_only_samples_below_the_bound_contribute():
    run = vectors().run()
    forget = everything(run.split.forget)
    losses = run.task.loss(run.model, forget)
    bound = losses.median().item() + 1e-6
    below = losses < bound
    assert 0 < int(below.sum()) < len(losses)
    loss = GradientAscent(bound=bound).loss(run, forget, None)
    assert loss.item() == pytest.approx((bound - losses[below]).sum().item() / len(losses))
    got, literal = gradients(loss, run.model), gradients(-losses[below].sum() / len(losses), run.model)
    assert all(torch.allclose(got[n], literal[n]) for n in got)
    # a bound above all losses is plain ascent
    high = gradients(GradientAscent(bound=100.0).loss(run, forget, None), run.model)
    plain = gradients(GradientAscent().loss(run, forget, None), run.model)
    assert all(torch.allclose(high[n], plain[n]) for n in plain)


def test_the_bound_ends_the_growth_of_the_loss():
    model, split, task = vectors()
    method = GradientAscent(epochs=20, lr=0.3, max_drop=100.0, bound=math.log(4), momentum=0.0)
    bounded, free = (execute(model, split, m, task).model for m in (method, replace(method, bound=None)))
    limited, grown = (task.loss(m, everything(split.forget)).mean().item() for m in (bounded, free))
    assert math.log(4) * 0.9 < limited < 2 * math.log(4) < 10 < grown


def test_a_bound_below_zero_is_refused():
    model, split, task = vectors()
    with pytest.raises(ExpungeError, match="bound is -1"):
        execute(model, split, GradientAscent(bound=-1.0), task)
