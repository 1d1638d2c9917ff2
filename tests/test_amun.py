"""AMUN: the attack on a linear model by hand, its limits, and the loss in its literal form."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from expunge.data.split import Split
from expunge.data.tensors import TensorData
from expunge.data.transforms import Normalize
from expunge.errors import ExpungeError
from expunge.methods.amun import AMUN
from expunge.tasks.classification import Classification
from expunge.torch_utils.module_state import snapshot
from expunge.training.run import Run
from small_problem import everything, gradients, images, vectors


def linear_run():
    """Two classes in the unit square, divided by x1 + 2 x2 = 1.5."""
    model = nn.Linear(2, 2)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[0.0, 0.0], [1.0, 2.0]]))
        model.bias.copy_(torch.tensor([0.0, -1.5]))
    x = 0.2 + 0.6 * torch.rand(40, 2, generator=torch.Generator().manual_seed(0))
    y = (x @ torch.tensor([1.0, 2.0]) > 1.5).long()
    split = Split.random((x[:30], y[:30]), (x[30:], y[30:]), 0.5)
    return Run(model, split, Classification(2))


def test_attack_on_a_linear_model_is_a_step_beyond_the_exact_distance():
    run, method = linear_run(), AMUN()
    method.prepare(run)
    x = everything(run.split.forget).x
    moved = (run.memo["pixels"] - x).norm(dim=1)
    exact = (x @ torch.tensor([1.0, 2.0]) - 1.5).abs() / 5**0.5
    # the radius doubles, so a step is at most a tenth of twice the distance, and at least 0.004
    assert (moved >= exact - 1e-6).all() and (moved <= exact + (0.2 * exact).clamp_min(0.004) + 1e-6).all()
    assert torch.equal(run.memo["labels"], 1 - everything(run.split.forget).y)


def test_adversarial_examples_are_images_with_other_predictions():
    run, method = images(random=True).run(), AMUN()
    before = snapshot(run.model)
    method.prepare(run)
    forget, pixels, labels = everything(run.split.forget), run.memo["pixels"], run.memo["labels"]
    assert pixels.min() >= 0 and pixels.max() <= 1 and (labels != forget.y).all()
    assert torch.equal(run.task.logits(run.model, pixels).argmax(1), labels)
    wrong = run.task.logits(run.model, forget.x).argmax(1) != forget.y
    assert torch.equal(pixels[wrong], forget.x[wrong]) and not torch.equal(pixels, forget.x)
    assert all(torch.equal(v, before[n]) for n, v in snapshot(run.model).items())
    assert all(p.grad is None for p in run.model.parameters())


def test_a_sample_that_withstands_the_largest_radius_warns():
    run = linear_run()
    with torch.no_grad():
        # class 1 everywhere
        run.model.weight.zero_()
        run.model.bias.copy_(torch.tensor([0.0, 1.0]))
    with pytest.warns(RuntimeWarning, match="keep their prediction"):
        AMUN(max_radius=0.1).prepare(run)
    labels = everything(run.split.forget).y
    assert run.memo["robust"] == int(labels.sum()) > 0
    assert torch.equal(run.memo["labels"], 1 - labels)


def test_loss_equals_its_literal_form_with_normalised_images():
    problem = images(random=True)
    data = problem.split.forget.data
    mean, std = (0.4, 0.5, 0.6), (0.2, 0.3, 0.4)
    sets = TensorData(data.x, data.labels, normalize=Normalize(mean, std))
    split = Split.random(sets, TensorData(data.x[:8] / 2, data.labels[:8]), 0.2)
    for use_forget in (True, False):
        run, method = Run(problem.model, split, problem.task), AMUN(use_forget=use_forget)
        method.prepare(run)
        forget, retain = everything(split.forget), everything(split.retain)
        # in another order than in the memo
        forget = forget.take(torch.arange(len(forget)).flip(0))
        total, count = 0, 0
        rows = [(forget.x[i], forget.y[i]) for i in range(len(forget)) if use_forget]
        rows += [(retain.x[i], retain.y[i]) for i in range(len(retain))]
        for k in range(len(forget)):
            image = run.memo["pixels"][len(forget) - 1 - k].clone()
            for channel in range(3):
                image[channel] = (image[channel] - mean[channel]) / std[channel]
            rows.append((image, run.memo["labels"][len(forget) - 1 - k]))
        for x, y in rows:
            total, count = total + F.cross_entropy(run.model(x[None]), y[None]), count + 1
        loss = method.loss(run, forget, retain)
        ours, literal = gradients(loss, run.model), gradients(total / count, run.model)
        assert all(torch.allclose(ours[n], literal[n], atol=1e-9) for n in ours)


def test_other_inputs_are_refused():
    with pytest.raises(ExpungeError, match=r"needs images in \[0, 1\]"):
        AMUN().prepare(vectors().run())


def test_a_class_is_forgotten_without_its_true_labels():
    assert AMUN(epochs=200).adapted(images().run()) == {"use_forget": False}
    assert AMUN(epochs=200).adapted(images(random=True).run()) == {}
