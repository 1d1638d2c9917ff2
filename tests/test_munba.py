"""MUNBa: the bargain by hand, its invariances, the released numerics, and the direction of a step."""

from __future__ import annotations

import pytest
import torch

from expunge.masks.mask import random_mask
from expunge.methods.munba import MUNBa, bargain, released_bargain
from expunge.methods.random_label import RandomLabel
from expunge.training.execute import execute
from small_problem import everything, gradients, vectors


def solved(r, f, solve=bargain):
    r, f = torch.as_tensor(r, dtype=torch.float32), torch.as_tensor(f, dtype=torch.float32)
    a_r, a_f = solve(r @ r, f @ f, r @ f)
    return float(a_r), float(a_f), (a_r * r + a_f * f).float()


def test_bargains_by_hand():
    a_r, a_f, step = solved([3, 0], [0, 4])
    assert (a_r, a_f) == pytest.approx((1 / 3, 1 / 4)) and torch.allclose(step, torch.ones(2))
    turned = [-0.5, 3**0.5 / 2]
    a_r, a_f, step = solved([1, 0], turned)
    assert (a_r, a_f) == pytest.approx((2**0.5, 2**0.5), rel=1e-5)
    assert step.tolist() == pytest.approx([0.70711, 1.22474], abs=1e-4)
    assert solved([2, 0], [2, 0])[:2] == pytest.approx((0.35355, 0.35355), abs=1e-5)


def test_scale_and_order_of_the_players_do_not_matter():
    r, f = torch.randn(2, 9, generator=torch.Generator().manual_seed(0))
    *_, step = solved(r, f)
    for scale in (1e-6, 1e6):
        assert torch.allclose(solved(scale * r, f)[2], step, rtol=1e-3)
    assert torch.allclose(solved(f, r)[2], step, rtol=1e-4)
    assert step.norm().item() == pytest.approx(2**0.5, rel=1e-4)
    assert step @ r > 0 and step @ f > 0


def test_opposite_and_missing_gradients_stay_finite():
    *_, step = solved([1, 0], [-1, 0])
    assert step.isfinite().all() and step.norm() < 1e-3
    *_, step = solved([0, 0], [0, 4])
    assert step.tolist() == pytest.approx([0, 1])
    assert not solved([0, 0], [0, 0])[2].any()


def test_released_numerics_are_wrong_for_small_gradients():
    assert solved([3, 0], [0, 4], released_bargain)[:2] != pytest.approx((1 / 3, 1 / 4), rel=0.1)
    unit = solved([1, 0], [-0.5, 3**0.5 / 2], released_bargain)
    assert unit[:2] == pytest.approx((2**0.5, 2**0.5), rel=1e-3)
    small = [[0.01, 0], [-0.005, 0.01 * 3**0.5 / 2]]
    # a_f would be negative
    assert solved(*small, released_bargain)[:2] == pytest.approx((1, 0.1))
    assert solved(*small)[:2] == pytest.approx((100 * 2**0.5,) * 2, rel=1e-3)


def test_step_uses_the_gradients_of_the_weights_that_may_move():
    problem = vectors()
    mask = random_mask(problem.model, 0.5, 0)
    for given in (None, mask):
        run = problem.run(mask=given)
        forget, retain = everything(run.split.forget), everything(run.split.retain)
        loss = MUNBa().loss(run, forget, retain)
        got = torch.cat([g.flatten() for g in gradients(loss, run.model).values()])
        labels = RandomLabel().other_labels(problem.run(), forget.y)
        flat = []
        for part in (
            run.task.loss(run.model, retain).mean(),
            run.task.relabel_loss(run.model, forget, labels).mean(),
        ):
            grads = gradients(part, run.model)
            flat.append(
                torch.cat([(g if given is None else g * given[n]).flatten() for n, g in grads.items()])
            )
        r, f = flat
        bisector = r / r.norm() + f / f.norm()
        assert torch.allclose(got, bisector * 2**0.5 / bisector.norm(), atol=1e-6)
        assert loss.item() > 0


def test_left_over_retain_batches_take_plain_steps():
    problem = vectors(random=True)
    method = MUNBa(batch_size=8, epochs=1)
    batches = list(method.pairs(problem.run()))
    together = -(-len(problem.split.forget) // 8)
    assert [f is not None for f, _ in batches] == [k < together for k in range(len(batches))]
    assert execute(problem.model, problem.split, method, problem.task).step == len(batches)
