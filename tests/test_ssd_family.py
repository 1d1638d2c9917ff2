"""LFSSD and ASSD: importances without labels, the adaptive alpha, and what the edit leaves alone."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from expunge.methods.assd import ASSD, adaptive_alpha, percentile_of
from expunge.methods.lfssd import LFSSD
from expunge.methods.ssd import dampen
from expunge.torch_utils.module_state import snapshot
from expunge.training.execute import execute
from small_problem import gradients, images, vectors

# ---- LFSSD


def test_importance_of_a_linear_model_by_hand():
    run = vectors().run()
    run.model = nn.Linear(5, 4, bias=False).double()
    one = run.split.forget.take(torch.tensor([0]))
    x = next(one.batches(1)).x[0]
    w = run.model.weight.detach()
    for method in (LFSSD(), LFSSD(paper=True)):
        assert torch.allclose(method.importances(run, one)["weight"], (2 * torch.outer(w @ x, x)).abs())


def test_importance_is_the_mean_over_single_samples_unless_paper():
    run = images().run()
    samples, rows = run.split.forget, []
    for batch in samples.batches(1):
        rows.append(gradients(run.model(batch.x).square().sum(), run.model))
    single = LFSSD().importances(run, samples)
    whole = LFSSD(paper=True, batch_size=1000).importances(run, samples)
    for name in single:
        stacked = torch.stack([r[name] for r in rows])
        assert torch.allclose(single[name], stacked.abs().mean(0), atol=1e-10), name
        assert torch.allclose(whole[name], stacked.mean(0).abs(), atol=1e-10), name
    # negative control: the two forms differ, and only the second depends on the batches
    assert not torch.allclose(single["0.weight"], whole["0.weight"], rtol=0.01)
    by_three = LFSSD(paper=True, batch_size=3).importances(run, samples)
    assert not torch.allclose(by_three["0.weight"], whole["0.weight"], rtol=0.01)


def test_labels_do_not_matter():
    problem = vectors()
    data = problem.split.forget.data
    first = LFSSD().importances(problem.run(), problem.split.forget)
    data.labels = 3 - data.labels
    second = LFSSD().importances(problem.run(), problem.split.forget)
    assert all(torch.equal(first[n], second[n]) for n in first)


def test_a_weight_is_never_enlarged_by_hand():
    run = vectors().run()
    (name, weight), *_ = run.model.named_parameters()
    before = weight.detach().clone()
    of_forget, of_all = torch.full_like(weight, 0.1), torch.ones_like(weight)
    of_forget[0, :3] = torch.tensor([1.5, 4.0, 2.0])
    assert dampen(run, {name: of_forget}, {name: of_all}, 1.0, 3.0) == 3
    # 3 * 1 / 1.5 would double it, 3 * 1 / 4 is three quarters, 3 * 1 / 2 would enlarge it
    factor = torch.ones_like(weight)
    factor[0, 1] = 0.75
    assert torch.equal(weight, before * factor)


@pytest.mark.parametrize("method", [LFSSD(alpha=1.1), ASSD(dampening=0.1)])
def test_weights_only_shrink_and_buffers_stay(method):
    model, split, task = images()
    after, before = snapshot(execute(model, split, method, task).model), snapshot(model)
    changed = 0
    for name, value in before.items():
        if name in dict(model.named_buffers()):
            assert torch.equal(after[name], value)
        else:
            assert (after[name].abs() <= value.abs()).all() and (after[name] * value >= 0).all()
            changed += int((after[name] != value).sum())
    assert changed


@pytest.mark.filterwarnings("ignore:.*unchanged")
def test_equal_importances_change_nothing():
    model, split, task = vectors()
    same = replace(split, retain=split.forget)
    # sums over another number of samples differ in the last bits
    assert execute(model, same, LFSSD(alpha=1 + 1e-9, samples=0), task).memo["dampened"] == 0
    assert execute(model, split, LFSSD(alpha=1e9), task).ended == "unchanged"
    run = execute(model, same, ASSD(as_released=True), task)
    assert run.memo["dampened"] == 0 and run.memo["alpha"] == 1


# ---- ASSD


@pytest.mark.parametrize(
    ("share", "expected"), [(0.001, 99.905), (0.01, 99.307), (0.1, 97.602), (0.5, 96.068)]
)
def test_percentile_by_hand(share, expected):
    assert percentile_of(round(1000 * share), 1000) == pytest.approx(expected, abs=1e-3)


def test_alpha_leaves_out_ratios_that_are_not_finite():
    of_forget = {"a": torch.tensor([1.0, 2.0, 3.0, 0.0, 5.0]), "b": torch.tensor([4.0, 5.0])}
    of_all = {"a": torch.tensor([1.0, 1.0, 1.0, 0.0, 0.0]), "b": torch.tensor([1.0, 1.0])}
    assert adaptive_alpha(of_forget, of_all, 50) == 3
    assert adaptive_alpha({"a": torch.zeros(2)}, {"a": torch.zeros(2)}, 50) == float("inf")


def test_the_share_above_the_percentile_is_dampened():
    model, split, task = images()
    run = execute(model, split, ASSD(samples=0), task)
    total = sum(p.numel() for p in model.parameters())
    assert run.memo["percentile"] == percentile_of(len(split.forget), len(split.forget) + len(split.retain))
    assert run.memo["dampened"] / total == pytest.approx(1 - run.memo["percentile"] / 100, abs=2 / total)
