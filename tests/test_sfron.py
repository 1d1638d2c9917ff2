"""SFRon: the weights of the samples, the mask of the forget step, and a literal version of some steps."""

from __future__ import annotations

import copy
import math
from dataclasses import replace

import pytest
import torch

from expunge.masks.per_sample_gradients import fisher_diagonal
from expunge.methods.sfron import SFRon, adaptive_weights
from expunge.torch_utils.module_state import snapshot
from expunge.training.execute import execute
from small_problem import everything, vectors

PLAIN = {"momentum": 0.0, "weight_decay": 0.0, "lr_schedule": "constant", "max_drop": 100.0, "samples": 0}


def test_weights_of_samples_by_hand():
    losses = torch.tensor([0.1, 1.0, 4.0], requires_grad=True)
    for exponent, total in ((0.0, 1.7), (0.5, 0.71129), (1.0, 0.26667)):
        weights = adaptive_weights(losses, exponent)
        assert (weights * losses).sum().item() == pytest.approx(total, abs=1e-5)
        assert weights.sum().item() == pytest.approx(1) and not weights.requires_grad
    assert torch.allclose(adaptive_weights(losses, 0.5), torch.tensor([0.678, 0.214, 0.107]), atol=1e-3)
    assert adaptive_weights(torch.tensor([0.0, 1.0]), 0.5).isfinite().all()


def test_steps_equal_their_literal_form():
    model, split, task = vectors()
    method = SFRon(epochs=2, batch_size=1000, every=1, lr=0.1, strength=3.0, beta=0.5, **PLAIN)
    run = execute(model, split, method, task)
    slow, forget, retain = copy.deepcopy(model), everything(split.forget), everything(split.retain)
    of_forget, of_retain = (fisher_diagonal(model, task, s) for s in (split.forget, split.retain))
    for t in range(2):
        start = {n: p.detach().clone() for n, p in slow.named_parameters()}
        losses = task.loss(slow, forget)
        weights = losses.detach() ** -0.5 / (losses.detach() ** -0.5).sum()
        loss = -3.0 * (1 + math.cos(math.pi * t / 2)) / 2 * (weights * losses).sum()
        grads = dict(zip(start, torch.autograd.grad(loss, list(slow.parameters())), strict=True))
        grads = {n: g * (of_forget[n] >= of_retain[n]) for n, g in grads.items()}
        norm = torch.cat([g.flatten() for g in grads.values()]).norm()
        with torch.no_grad():
            for n, p in slow.named_parameters():
                p -= 0.1 * grads[n] * min(1.0, 7 / norm)
        grads = torch.autograd.grad(task.loss(slow, retain).mean(), list(slow.parameters()))
        with torch.no_grad():
            for (n, p), g in zip(slow.named_parameters(), grads, strict=True):
                p.copy_(start[n] + 0.5 * (p - 0.1 * g - start[n]))
    assert run.step == method.steps(run) == 4
    for p, q in zip(run.model.parameters(), slow.parameters(), strict=True):
        assert torch.allclose(p, q, atol=1e-9)


@pytest.mark.parametrize("as_released", [False, True])
def test_a_forget_step_leaves_other_weights_alone_unless_as_released(as_released, monkeypatch):
    model, split, task = vectors()
    loss, after_step, seen = SFRon.loss, SFRon.after_step, []

    def watched_loss(self, run, forget, retain):
        if run.step == 6:
            assert forget is not None
            seen.append(snapshot(run.model))
        return loss(self, run, forget, retain)

    def watched_after_step(self, run, optimizer):
        after_step(self, run, optimizer)
        if run.step == 6:
            seen.append(snapshot(run.model))

    monkeypatch.setattr(SFRon, "loss", watched_loss)
    monkeypatch.setattr(SFRon, "after_step", watched_after_step)
    method = SFRon(batch_size=1000, epochs=6, lr=0.1, max_drop=100.0, as_released=as_released)
    salient = execute(model, split, method, task).memo["salient"]
    before, after = seen
    assert not all(m.all() for m in salient.values())
    kept = all(torch.equal(before[n][~m], after[n][~m]) for n, m in salient.items())
    # as released, weight decay and the momentum of retain steps move them
    assert kept is not as_released


def test_equal_sets_select_all_weights_or_none():
    problem = vectors()
    run = problem.run()
    run.split = replace(run.split, retain=run.split.forget)
    for threshold, share in ((1.0, 1.0), (0.5, 1.0), (1.01, 0.0)):
        method = SFRon(threshold=threshold, samples=0)
        method.prepare(run)
        assert method.details(run)["sfron"]["salient"] == share
    released = SFRon(as_released=True)
    released.prepare(run)
    assert all(m.all() for m in run.memo["salient"].values())
