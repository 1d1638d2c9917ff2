"""DELETE: the loss by hand and in its two parts, and what it must not do."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from expunge.methods.delete import Delete, decoupled_loss
from expunge.records.hashing import state_hash
from expunge.training.execute import execute
from small_problem import everything, vectors

Y = torch.tensor([0])


def test_loss_and_gradient_by_hand():
    z = torch.tensor([[2.0, 1.0, 0.0]], requires_grad=True)
    loss = decoupled_loss(z.detach(), z, Y)
    assert loss.item() == pytest.approx(1.09434, abs=1e-5)
    (gradient,) = torch.autograd.grad(loss.sum(), z)
    assert torch.allclose(gradient, torch.tensor([[0.6652, -0.4863, -0.1789]]), atol=1e-4)
    assert abs(float(gradient.sum())) < 1e-6


def test_loss_is_the_sum_of_its_two_parts():
    teacher, student = torch.randn(2, 6, 5, generator=torch.Generator().manual_seed(1))
    y = torch.arange(6) % 5
    for i in range(6):
        rest = [k for k in range(5) if k != y[i]]
        q, p = teacher[i, rest].softmax(0), student[i].softmax(0)
        conditional = student[i, rest].softmax(0)
        parts = -(1 - p[y[i]]).log() + (q * (q / conditional).log()).sum()
        assert decoupled_loss(teacher[i : i + 1], student[i : i + 1], y[i : i + 1]).item() == pytest.approx(
            parts.item(), rel=1e-5
        )
    # two classes: plain relabelling
    two = decoupled_loss(teacher[:, :2], student[:, :2], y % 2)
    assert torch.allclose(two, F.cross_entropy(student[:, :2], 1 - y % 2, reduction="none"))


def test_half_precision_and_a_certain_teacher_stay_finite():
    z = torch.tensor([[60.0, -60.0, 0.0]], dtype=torch.float16, requires_grad=True)
    loss = decoupled_loss(z.detach(), z, Y)
    loss.sum().backward()
    assert loss.isfinite() and z.grad.isfinite().all() and z.grad[0, 0] > 0


def test_the_class_is_forgotten_and_the_order_of_the_others_kept():
    model, split, task = vectors()
    forget = everything(split.forget)
    before = task.logits(model, forget.x).detach()
    original = state_hash(model.state_dict())
    run = execute(model, split, Delete(epochs=40, lr=0.1, max_drop=100.0), task)
    after = task.logits(run.model, forget.x).detach()
    assert after.softmax(1)[:, 1].max() < 0.1
    other = [0, 2, 3]
    agree = (before[:, other].argmax(1) == after[:, other].argmax(1)).float().mean()
    # negative control: one label for all cannot agree with the original on so many
    one_label = before[:, other].argmax(1).bincount().max() / len(before)
    assert agree > 0.8 > one_label and state_hash(model.state_dict()) == original
