"""Compare the formulas of the baselines with slow literal versions and with numbers computed by hand."""

from __future__ import annotations

import copy
import hashlib
import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from scipy.sparse.linalg import cg
from torch import nn

from expunge.data.batch import Batch
from expunge.data.past_requests import requests_of
from expunge.data.samples import Samples
from expunge.data.split import Split
from expunge.data.tensors import TensorData
from expunge.data.transforms import Normalize
from expunge.errors import CheckpointError, ExpungeError, ModelError, SplitError
from expunge.masks.gradient_matrix import GradientMatrix, conjugate_gradient
from expunge.masks.mask_file import Mask
from expunge.masks.per_sample_gradients import fisher_diagonal, mean_gradient, per_sample_gradients
from expunge.methods import _sisa_shards
from expunge.methods._sisa_samples import sample_keys
from expunge.methods.amnesiac import Amnesiac, AmnesiacRecorder
from expunge.methods.bad_teacher import BadTeacher
from expunge.methods.bias_shift import BiasShift
from expunge.methods.boundary_expand import BoundaryExpand
from expunge.methods.boundary_shrink import BoundaryShrink
from expunge.methods.damp import DAMP, project, residual_directions, separability
from expunge.methods.fisher_forgetting import FisherForgetting, noise_variance
from expunge.methods.ieu import IEU
from expunge.methods.influence import Influence
from expunge.methods.l1_sparse import L1Sparse
from expunge.methods.lb_hr import LBHR
from expunge.methods.neg_grad_plus import NegGradPlus
from expunge.methods.nhle import NHLE
from expunge.methods.retrain import Retrain
from expunge.methods.salun_soft import SalUnSoft
from expunge.methods.scrub import Scrub, divergence
from expunge.methods.scrub_and_learn import ScrubAndLearn
from expunge.methods.sisa import SISA, SisaEnsemble
from expunge.methods.ssd import SSD
from expunge.methods.tarf import TARF
from expunge.methods.ts_bgrm import TSBGRM
from expunge.pipeline.experiment import train
from expunge.sources.mismatch import mismatch
from expunge.tasks.classification import Classification
from expunge.training.execute import execute
from expunge.training.run import Compute, Run


def net() -> nn.Module:
    return nn.Sequential(nn.Linear(5, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Linear(6, 4)).double()


@pytest.fixture(scope="module")
def small():
    """A random network, 60 training samples of 4 classes in double precision, and the split that forgets class 1."""
    g = torch.Generator().manual_seed(0)
    y = torch.arange(80) % 4
    x = torch.randn(80, 5, generator=g, dtype=torch.float64) + F.one_hot(y, 5)
    with torch.random.fork_rng():
        torch.manual_seed(3)
        model = net()
        # gives batch norm running statistics of this data
        model(x)
    split = Split.by_class((x[:60], y[:60]), (x[60:], y[60:]), forget=1, validation=0.1)
    return model.eval(), split, Classification(4)


def everything(samples) -> Batch:
    return next(samples.batches(len(samples)))


def literal_gradients(model, task, samples):
    """Return the flattened gradients (T, P), from one backward pass per sample."""
    rows = []
    for batch in samples.batches(1):
        grads = torch.autograd.grad(task.loss(model, batch).sum(), list(model.parameters()))
        rows.append(torch.cat([g.flatten() for g in grads]))
    return torch.stack(rows)


def flat(named):
    return torch.cat([v.flatten() for v in named.values()])


def moved(run, model):
    """Return theta_after - theta_before as one vector."""
    pairs = zip(run.model.parameters(), model.parameters(), strict=True)
    return torch.cat([(p - q).detach().flatten() for p, q in pairs])


# ---- gradients of single samples


def test_per_sample_gradients_equal_one_backward_pass_per_sample(small):
    model, split, task = small
    batch = everything(split.forget)
    fast = per_sample_gradients(model, task, batch)
    slow = literal_gradients(model, task, split.forget)
    assert torch.allclose(torch.cat([g.flatten(1) for g in fast.values()], 1), slow, atol=1e-12)
    assert torch.allclose(
        flat(mean_gradient(model, task, split.forget, batch_size=7)), slow.mean(0), atol=1e-12
    )
    assert torch.allclose(flat(fisher_diagonal(model, task, split.forget)), slow.square().mean(0), atol=1e-12)


def test_per_sample_gradients_of_a_model_without_batching_rule(small):
    model, split, task = small

    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = model

        def forward(self, x):
            # reading a value out of a tensor has no batching rule
            return self.body(x) * (1.0 if float(x.sum()) < 1e9 else 0.0)

    slow = literal_gradients(model, task, split.forget)
    odd = per_sample_gradients(Odd().eval(), task, everything(split.forget))
    assert torch.allclose(torch.cat([g.flatten(1) for g in odd.values()], 1), slow, atol=1e-12)


def test_expected_fisher_sums_over_the_models_own_labels(small):
    model, split, task = small
    few = split.retain.take(torch.arange(9))
    total = 0
    for batch in few.batches(1):
        p = task.logits(model, batch.x).softmax(1)[0].detach()
        for k in range(4):
            loss = F.cross_entropy(task.logits(model, batch.x), torch.tensor([k]))
            g = torch.cat([v.flatten() for v in torch.autograd.grad(loss, list(model.parameters()))])
            total = total + p[k] * g.square() / 9
    assert torch.allclose(flat(fisher_diagonal(model, task, few, expected=True)), total, atol=1e-12)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 12), st.integers(0, 10**6))
def test_conjugate_gradient_solves(n, seed):
    g = torch.Generator().manual_seed(seed)
    root = torch.randn(n, n, generator=g, dtype=torch.float64)
    a, b = root @ root.T + torch.eye(n, dtype=torch.float64), torch.randn(n, generator=g, dtype=torch.float64)
    x, steps, residual = conjugate_gradient(lambda v: a @ v, b, 1e-10, 10 * n)
    assert torch.allclose(a @ x, b, atol=1e-7) and residual <= 1e-10 and steps <= 10 * n
    counted = []
    expected, _ = cg(a.numpy(), b.numpy(), rtol=1e-10, atol=0, maxiter=10 * n, callback=counted.append)
    assert np.allclose(x, expected, rtol=1e-6, atol=1e-9) and abs(steps - len(counted)) <= 1


# ---- IU


def direction_parts(model, split, task):
    forget, retain = (literal_gradients(model, task, s) for s in (split.forget, split.retain))
    share = len(forget) / (len(forget) + len(retain))
    return retain, share * (forget.mean(0) - retain.mean(0))


def woodfisher(rows, v):
    """Return F^-1 v by the published recursion; the dense inverse keeps all o_t implicitly."""
    n, inverse = len(rows), torch.eye(rows.shape[1], dtype=rows.dtype)
    for g in rows:
        o = inverse @ g
        inverse = inverse - torch.outer(o, o) / (n + g @ o)
    return inverse @ v


@pytest.mark.parametrize("damping", [1.0, 0.05])
def test_influence_is_the_dense_inverse_and_the_correct_recursion(small, damping):
    model, split, task = small
    rows, v = direction_parts(model, split, task)
    method = Influence(alpha=2.5, samples=0, damping=damping, tolerance=1e-12)
    run = execute(model, split, method, task)
    dense = damping * torch.eye(rows.shape[1], dtype=rows.dtype) + rows.T @ rows / len(rows)
    assert torch.allclose(moved(run, model), 2.5 * torch.linalg.solve(dense, v), atol=1e-10)
    if damping == 1:
        assert torch.allclose(moved(run, model), 2.5 * woodfisher(rows, v), atol=1e-10)
    # the inverse differs from the identity here
    assert not torch.allclose(moved(run, model), 2.5 * v, rtol=0.1)
    assert run.memo["residual"] <= 1e-11


def test_influence_as_released_keeps_one_vector(small):
    model, split, task = small
    rows, v = direction_parts(model, split, task)
    k, o, n = v.clone(), rows[0].clone(), len(rows)
    for g in rows[1:]:
        t = o @ g
        k, o = k - (k @ g) / (n + t) * o, o - t / (n + t) * o
    run = execute(model, split, Influence(samples=0, paper=True), task)
    assert torch.allclose(moved(run, model), k, atol=1e-12)
    # the fault of the code: what it adds to v is a multiple of the first sample's gradient
    added = k - v
    assert torch.allclose(added, (added @ rows[0]) / (rows[0] @ rows[0]) * rows[0], atol=1e-12)


def test_influence_warns_if_the_solver_does_not_converge(small):
    model, split, task = small
    with pytest.warns(RuntimeWarning, match="iterations"):
        execute(model, split, Influence(samples=0, damping=1e-6, tolerance=1e-12, iterations=2), task)


# ---- SSD, Fisher forgetting


def test_ssd_equals_its_literal_form(small):
    model, split, task = small
    everything = Samples(split.forget.data, torch.cat([split.forget.index, split.retain.index]))
    of_forget, of_all = (
        literal_gradients(model, task, s).square().mean(0) for s in (split.forget, everything)
    )
    weights = torch.cat([p.detach().flatten() for p in model.parameters()])
    expected = weights.clone()
    for i in range(len(weights)):
        if of_forget[i] > 1.3 * of_all[i]:
            expected[i] = min(0.7 * of_all[i] / of_forget[i], 1.0) * weights[i]
    run = execute(model, split, SSD(alpha=1.3, dampening=0.7, samples=0), task)
    assert torch.allclose(weights + moved(run, model), expected, atol=1e-12)
    assert 0 < run.memo["dampened"] == int((of_forget > 1.3 * of_all).sum()) < len(weights)


def test_ssd_as_released_squares_batch_means(small):
    model, split, task = small
    method = SSD(paper=True, batch_size=10)
    got = method.importances(Run(model, split, task), split.retain)
    batches = [b for b in split.retain.batches(10)]
    total = 0
    for b in batches:
        grads = torch.autograd.grad(task.loss(model, b).mean(), list(model.parameters()))
        total = total + torch.cat([g.flatten() for g in grads]).square() / len(batches)
    assert torch.allclose(flat(got), total, atol=1e-14)


def test_ssd_as_released_accepts_an_unused_parameter(small):
    model, split, task = small
    spare = copy.deepcopy(model)
    spare.unused = nn.Parameter(torch.ones(2, dtype=torch.float64))
    spare.forward = model.forward
    run = Run(spare, split, task)
    assert not SSD(paper=True, batch_size=10).importances(run, split.forget)["unused"].any()


def test_ssd_ratio_is_bounded_by_the_forget_sets_share(small):
    model, split, task = small
    of_forget, of_all = (
        literal_gradients(model, task, s).square().mean(0) for s in (split.forget, split.train)
    )
    assert (of_forget <= len(split.train) / len(split.forget) * of_all * (1 + 1e-9)).all()


def test_fisher_noise_by_hand():
    fisher = torch.tensor([[1.0, 0.0], [0.25, 0.25]])
    assert torch.allclose(
        noise_variance(fisher, 1e-6, head=False), 1e-6 * torch.tensor([[500.5, 500.5], [4.0, 4.0]])
    )
    assert torch.allclose(
        noise_variance(fisher, 1e-6, head=True), 1e-5 * torch.tensor([[50.5, 50.5], [4.0, 4.0]])
    )
    assert torch.allclose(noise_variance(torch.tensor([0.5]), 1e-6, head=False), torch.tensor([2e-5]))


def test_fisher_reset_is_a_flag_and_changes_one_row(small):
    model, split, task = small
    without, reset = (
        execute(model, split, FisherForgetting(alpha=0.0, reset_class=r), task).model for r in (False, True)
    )
    assert torch.equal(without[3].weight, model[3].weight)
    changed = (reset[3].weight != model[3].weight).any(1)
    assert changed.tolist() == [False, True, False, False] and reset[3].weight[1].abs().max() < 0.1


# ---- objectives


def run_of(small):
    model, split, task = small
    return Run(copy.deepcopy(model), split, task, source=model)


def test_l1_by_hand(small):
    run, method = run_of(small), L1Sparse(epochs=10, free_epochs=2, penalty=0.5)
    assert [method.strength(e) for e in (0, 4, 8, 9)] == [0.5, 0.25, 0.0, 0.0]
    retain = everything(run.split.retain)
    size = sum(p.abs().sum().item() for p in run.model.parameters())
    run.epoch = 4
    assert method.loss(run, None, retain).item() == pytest.approx(
        run.task.loss(run.model, retain).mean().item() + 0.25 * size
    )


def test_neg_grad_plus_by_hand(small):
    run = run_of(small)
    f, r = everything(run.split.forget), everything(run.split.retain)
    expected = 0.8 * run.task.loss(run.model, r).mean() - 0.2 * run.task.loss(run.model, f).mean()
    assert torch.allclose(NegGradPlus(retain_share=0.8).loss(run, f, r), expected)


def test_divergence_equals_the_definition_of_kl():
    z, w = torch.randn(5, 3, dtype=torch.float64), torch.randn(5, 3, dtype=torch.float64)
    p, q = (z / 2).softmax(1), (w / 2).softmax(1)
    assert torch.allclose(divergence(z, w, 2.0), 4 * (p * (p / q).log()).sum(1))
    assert divergence(z, z).abs().max() < 1e-14


def test_scrub_alternates_and_both_losses_have_the_right_sign(small):
    run, method = (
        run_of(small),
        Scrub(epochs=3, max_epochs=2, batch_size=16, forget_batch_size=8, temperature=2.0),
    )
    kinds = []
    for run.epoch in range(3):
        kinds.append("".join("f" if r is None else "r" for _, r in method.pairs(run)))
    forget, retain = math.ceil(len(run.split.forget) / 8), math.ceil(len(run.split.retain) / 16)
    assert kinds == ["f" * forget + "r" * retain] * 2 + ["r" * retain]
    assert method.steps(run) == sum(map(len, kinds))
    with torch.no_grad():
        run.model[3].weight.mul_(0.3)
    f, r = everything(run.split.forget), everything(run.split.retain)
    logits = lambda m, b: run.task.logits(m, b.x)  # noqa: E731
    apart = divergence(logits(run.original, f), logits(run.model, f), 2.0).mean()
    assert torch.allclose(method.loss(run, f, None), -apart) and apart > 0
    kept = divergence(logits(run.original, r), logits(run.model, r), 2.0).mean()
    expected = method.alpha * kept + F.cross_entropy(logits(run.model, r), r.y)
    assert torch.allclose(method.loss(run, None, r), expected)


def test_bad_teacher_uses_the_right_teacher_for_each_set(small):
    model, split, task = small
    run, method = run_of(small), BadTeacher(retain_part=0.4, batch_size=16)
    run.factory = net
    method.prepare(run)
    bad = net().eval()
    bad.load_state_dict(run.memo["teacher"])
    f, r = everything(split.forget), everything(split.retain)
    with torch.no_grad():
        run.model[3].weight.mul_(0.5)
    rows = [divergence(task.logits(t, b.x), task.logits(run.model, b.x)) for t, b in ((bad, f), (model, r))]
    assert torch.allclose(method.loss(run, f, r), torch.cat(rows).mean())
    seen = [
        i for a, b in method.pairs(run) for part in (a, b) if part is not None for i in part.index.tolist()
    ]
    assert set(split.forget.index.tolist()) <= set(seen) and len(seen) == len(set(seen))
    assert len(seen) == len(split.forget) + round(0.4 * len(split.retain))
    assert method.steps(run) == math.ceil(len(seen) / 16)


class Undo(nn.Module):
    def __init__(self, normalize):
        super().__init__()
        self.normalize = normalize

    def forward(self, x):
        return self.normalize.undo(x)


def test_boundary_shrink_labels_equal_those_of_a_literal_step():
    g = torch.Generator().manual_seed(1)
    x = torch.rand(40, 1, 3, 3, generator=g)
    y = torch.arange(40) % 3
    split = Split.by_class((x[:30], y[:30]), (x[30:], y[30:]), forget=0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(9, 3))
    with torch.no_grad():
        model[1].weight.copy_(3 * torch.randn(3, 9, generator=g))
        # some samples stay in their class after the step
        model[1].bias.copy_(torch.tensor([5.0, 0.0, 0.0]))
    run = Run(model, split, Classification(3))
    batch = everything(split.forget)
    got, kept = (BoundaryShrink(paper=e).nearest(run, batch) for e in (False, True))
    for i in range(len(batch)):
        one = batch.x[i : i + 1].clone().requires_grad_(True)
        F.cross_entropy(model(one), batch.y[i : i + 1]).backward()
        far = (((one + 0.1 * one.grad.sign()).clamp(0, 1) * 255).round() / 255).detach()
        logits = model(far)[0]
        assert kept[i] == logits.argmax()
        logits[batch.y[i]] = -torch.inf
        assert got[i] == logits.argmax() != batch.y[i]
    assert 0 < int((kept == batch.y).sum()) < len(kept)
    # the same pixels, normalised by the data, for a model that undoes the normalisation
    normalized = TensorData(x[:30], y[:30], normalize=Normalize((0.4,), (0.3,)))
    same = Split.by_class(normalized, (x[30:], y[30:]), forget=0)
    undone = nn.Sequential(Undo(normalized.normalize), model)
    labels = BoundaryShrink().nearest(Run(undone, same, Classification(3)), everything(same.forget))
    assert torch.equal(labels, got)
    words = Batch({"ids": torch.zeros(2, 3, dtype=torch.int64)}, batch.y[:2], batch.index[:2])
    with pytest.raises(ExpungeError, match="boundary_expand"):
        BoundaryShrink().nearest(run, words)


def test_boundary_expand_equals_training_with_an_extra_output():
    """Literal version: add an output to the head, train with torch's SGD on the forget set, remove the output."""
    g = torch.Generator().manual_seed(1)
    x, y = torch.randn(40, 5, generator=g), torch.arange(40) % 4
    split = Split.by_class((x[:32], y[:32]), (x[32:], y[32:]), forget=2)
    model = nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 4))
    task, method = Classification(4), BoundaryExpand(epochs=4, lr=0.1, momentum=0.9, weight_decay=0.01)
    run = execute(model, split, method, task, seed=7)
    assert run.model[2].out_features == 4

    fresh = Run(copy.deepcopy(model), split, task, seed=7, source=model)
    method.prepare(fresh)
    unit, wide = fresh.memo["unit"], nn.Linear(6, 5)
    with torch.no_grad():
        wide.weight.copy_(torch.cat([model[2].weight, unit[None, :-1]]))
        wide.bias.copy_(torch.cat([model[2].bias, unit[-1:]]))
    literal = nn.Sequential(copy.deepcopy(model[0]), nn.Tanh(), wide)
    optimizer = torch.optim.SGD(literal.parameters(), 0.1, momentum=0.9, weight_decay=0.01)
    for _ in range(4):
        for forget, _ in method.pairs(fresh):
            optimizer.zero_grad()
            F.cross_entropy(literal(forget.x), torch.full_like(forget.y, 4)).backward()
            optimizer.step()
    assert torch.allclose(run.model[0].weight, literal[0].weight, atol=1e-6)
    assert torch.allclose(run.model[2].weight, wide.weight[:4], atol=1e-6)
    assert torch.allclose(run.memo["unit"], torch.cat([wide.weight[4], wide.bias[4:]]), atol=1e-6)


def test_scrub_and_learn_takes_the_originals_second_most_probable_class(small):
    run, method = run_of(small), ScrubAndLearn(samples=5)
    method.prepare(run)
    ((batch, _),) = method.pairs(run)
    assert len(batch) == 5 and set(batch.y.tolist()) == {1}
    p = run.task.logits(run.original, batch.x).softmax(1)
    expected = [max((k for k in range(4) if k != 1), key=lambda k: p[i, k].item()) for i in range(5)]
    assert method.submaximum(run, batch).tolist() == expected


def test_ieu_ascent_stops_at_chance_and_noise_fades(small):
    run, method = run_of(small), IEU(epochs=1, strength=0.5, noise=0.1, batch_size=64)
    f, r = everything(run.split.forget), everything(run.split.retain)
    losses = run.task.loss(run.model, f)
    value = method.loss(run, f, r)
    assert torch.allclose(value, run.task.loss(run.model, r).mean() - 0.5 * losses.mean())
    pull = torch.autograd.grad(value, run.model[3].bias)[0]
    alive = (losses.detach() < math.log(4)).double()
    literal = run.task.loss(run.model, r).mean() - 0.5 * (alive * run.task.loss(run.model, f)).mean()
    assert torch.allclose(pull, torch.autograd.grad(literal, run.model[3].bias)[0]) and 0 < alive.sum() < len(
        alive
    )
    before = copy.deepcopy(run.model)
    method.after_step(run, None)
    step = run.model[0].weight - before[0].weight
    size = step.std() / before[0].weight.square().mean().sqrt()
    assert 0.06 < size < 0.14
    run.step, before = method.steps(run), copy.deepcopy(run.model)
    method.after_step(run, None)
    assert torch.equal(run.model[0].weight, before[0].weight)


def test_lb_hr_by_hand(small):
    run, method = run_of(small), LBHR(penalty=2.0)
    with torch.no_grad():
        run.model[3].bias.copy_(torch.tensor([0.5, -1.0, 0.25, 0.75]))
    retain = everything(run.split.retain)
    expected = run.task.loss(run.model, retain).mean() + 2 * 1.25**2
    assert torch.allclose(method.loss(run, None, retain), expected)
    assert method.frozen(run) == {"0.weight", "0.bias", "1.weight", "1.bias"}
    bare = nn.Linear(5, 4, bias=False).double()
    with pytest.raises(ModelError, match="not applicable"):
        execute(bare, run.split, LBHR(), run.task)


def test_ts_bgrm_scales_the_bias_gradients_of_kept_classes(small):
    run = run_of(small)
    forget, head = everything(run.split.forget), run.model[3]
    plain = torch.autograd.grad(-run.task.loss(run.model, forget).mean(), [head.weight, head.bias])
    for factor in (-1.0, 0.5, 1.0):
        value = TSBGRM(reversal=factor).loss(run, forget, None)
        assert torch.allclose(value, -run.task.loss(run.model, forget).mean())
        weight, bias = torch.autograd.grad(value, [head.weight, head.bias])
        scale = torch.tensor([factor, 1.0, factor, factor], dtype=torch.float64)
        assert torch.allclose(weight, plain[0]) and torch.allclose(bias, scale * plain[1])
    kinds = []
    method = TSBGRM(epochs=3, ascent_epochs=1, batch_size=16)
    for run.epoch in range(3):
        kinds.append({"f" if r is None else "r" for _, r in method.pairs(run)})
    assert kinds == [{"f"}, {"r"}, {"r"}]


def test_bias_shift_never_predicts_the_class_and_changes_one_number(small):
    model, split, task = small
    after = execute(model, split, BiasShift(), task).model
    assert task.predict(after, split.forget).accuracy == 0
    assert (task.predict(after, split.retain).logits.argmax(1) != 1).all()
    assert [k for k, v in after.state_dict().items() if not torch.equal(v, model.state_dict()[k])] == [
        "3.bias"
    ]
    assert after[3].bias[1].item() == pytest.approx(model[3].bias[1].item() - 1e4)
    with pytest.raises(ModelError, match="no bias"):
        execute(nn.Linear(5, 4, bias=False).double(), split, BiasShift(), task)


# ---- DAMP


def test_damp_removes_the_directions_of_the_forgotten_mean_alone():
    retained = torch.tensor([[1.0, 0, 0, 0], [0, 2.0, 0, 0]])
    forgotten = torch.tensor([[3.0, 1.0, 4.0, 0]])
    basis = residual_directions(forgotten, retained, 1.0)
    assert torch.allclose(basis.abs(), torch.tensor([[0.0], [0], [1], [0]]), atol=1e-6)
    weight = torch.randn(2, 4, 3, 3)
    out = project(weight, basis, 0.5)
    assert torch.allclose(out[:, 2], 0.5 * weight[:, 2], atol=1e-6)
    assert torch.allclose(out[:, [0, 1, 3]], weight[:, [0, 1, 3]], atol=1e-6)
    assert residual_directions(torch.tensor([[3.0, 1.0, 0, 0]]), retained, 1.0).shape == (4, 0)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 3), st.integers(1, 5), st.integers(0, 10**6))
def test_damp_full_projection_removes_the_directions(f, k, seed):
    g = torch.Generator().manual_seed(seed)
    forgotten, retained = torch.randn(f, 12, generator=g), torch.randn(k, 12, generator=g)
    basis = residual_directions(forgotten, retained, 1.0)
    weight = project(torch.randn(7, 12, generator=g), basis, 1.0)
    assert torch.allclose(basis.T @ basis, torch.eye(f), atol=1e-4)
    assert (weight @ basis).abs().max() < 1e-4
    dense = forgotten - forgotten @ torch.linalg.pinv(retained) @ retained  # d = mu - R R^+ mu
    assert torch.allclose(basis @ (basis.T @ dense.T), dense.T, atol=1e-3)


def test_damp_probe_and_details(classifier):
    x = torch.randn(200, 3)
    assert separability(x[:100] + torch.tensor([6.0, 0, 0]), x[100:]) > 0.95
    assert 0.3 < separability(x[:100], x[100:]) < 0.7
    run = execute(classifier.model, classifier.by_class, DAMP(), classifier.task)
    details = DAMP().details(run)["damp"]
    # the first convolution has one input channel, so there is nothing to project
    assert list(details["alphas"]) == ["4", "7"]
    assert 0 <= details["alphas"]["4"] <= details["alphas"]["7"] <= 1 and details["selectivity"] > 0


# ---- amnesiac


def test_amnesiac_draws_labels_that_differ_from_the_true_ones(small):
    run, method = run_of(small), Amnesiac()
    method.prepare(run)
    labels, truth = run.memo["labels"], run.split.forget.data.labels
    assert (labels[run.split.forget.index] != truth[run.split.forget.index]).all()
    assert torch.equal(labels[run.split.retain.index], truth[run.split.retain.index])


def test_amnesiac_subtracts_exactly_the_logged_steps_that_saw_a_forget_sample(small, tmp_path):
    model, split, task = small
    recorder = AmnesiacRecorder(tmp_path / "log", split.forget)
    student, expected = copy.deepcopy(model).train(), None
    optimizer = torch.optim.SGD(student.parameters(), 0.05, momentum=0.9)
    expected = {n: p.detach().clone() for n, p in student.named_parameters()}
    steps = 0
    for batch in split.train.batches(6):
        optimizer.zero_grad()
        task.loss(student, batch).mean().backward()
        before = {n: p.detach().clone() for n, p in student.named_parameters()}
        with recorder.step(student, batch.index):
            optimizer.step()
        touched = bool(torch.isin(batch.index, split.forget.index).any())
        steps += touched
        for n, p in student.named_parameters():
            expected[n] += 0 if touched else p.detach() - before[n]
    assert len(list((tmp_path / "log").glob("*"))) == steps > 0
    method = Amnesiac(log=tmp_path / "log", epochs=1, lr=0.0)
    run = execute(student, split, method, task)
    assert method.details(run)["amnesiac"]["steps_removed"] == steps
    for n, p in run.model.named_parameters():
        assert torch.allclose(p, expected[n], atol=1e-12)


def test_amnesiac_recorder_in_the_packages_loop_and_with_a_mask(classifier, tmp_path):
    split, task = classifier.by_class, classifier.task
    recipe = Retrain(epochs=1, lr=0.01, batch_size=64)
    whole = Split.random(
        *[(d.x, d.labels) for d in (split.forget.data, split.test.data)], count=1, validation=0
    )
    plain, logged = (
        train(classifier.model, whole, r, task).model
        for r in (recipe, AmnesiacRecorder(tmp_path, split.forget).recipe(recipe))
    )
    assert all(torch.equal(a, b) for a, b in zip(plain.parameters(), logged.parameters(), strict=True))
    run = execute(logged, split, Amnesiac(log=tmp_path, epochs=1, lr=1e-4, density=0.3), task)
    for name, p in run.model.named_parameters():
        assert torch.equal(p[~run.mask[name]], logged.get_parameter(name)[~run.mask[name]])
    assert any((p != logged.get_parameter(n)).any() for n, p in run.model.named_parameters())


def test_amnesiac_refuses_logs_of_other_models_or_samples(small, tmp_path):
    model, split, task = small
    with pytest.raises(ExpungeError, match="no log"):
        execute(model, split, Amnesiac(log=tmp_path / "nothing"), task)
    with (
        pytest.raises(ExpungeError, match="does not know the data"),
        AmnesiacRecorder(tmp_path).step(model, split.retain.index),
    ):
        pass
    recorder = AmnesiacRecorder(tmp_path / "log", data=split.train.data)
    with recorder.step(model, split.retain.index[:3]):
        pass
    with pytest.raises(ExpungeError, match="saw a forget sample"):
        execute(model, split, Amnesiac(log=tmp_path / "log"), task)
    other = nn.Linear(5, 4).double()
    with recorder.step(other, split.forget.index[:3]):
        pass
    with pytest.raises(ExpungeError, match="another model"):
        execute(model, split, Amnesiac(log=tmp_path / "log"), task)


# ---- TARF


def logged_by_hand(folder, data, wanted=None):
    """Log a step of samples 0 and 2 that adds 1 to a weight, and one of samples 1 and 3 that adds 10. Return the model."""
    model = nn.Linear(5, 4)
    nn.init.zeros_(model.weight)
    recorder = AmnesiacRecorder(folder, wanted, data)
    for batch, size in (([0, 2], 1.0), ([1, 3], 10.0)):
        with recorder.step(model, torch.tensor(batch)), torch.no_grad():
            model.weight.add_(size)
    return model


def test_amnesiac_finds_the_steps_of_a_sample_also_after_the_data_lost_samples(tmp_path):
    task, (data, test) = Classification(4), sisa_with_ids()
    model = logged_by_hand(tmp_path, data)
    assert all(file.stat().st_mode & 0o777 == 0o600 for file in tmp_path.iterdir())
    undo = Amnesiac(log=tmp_path, epochs=1, lr=0.0)
    # u2 is at position 1 once u0 is gone, and the step of positions 1 and 3 did not see it
    smaller, _ = sisa_with_ids(range(1, 60))
    for today in (data, smaller):
        after = execute(model, Split.by_ids(today, test, ["u2"], validation=0), undo, task).model
        assert torch.equal(after.weight, torch.full((4, 5), 10.0))


def test_amnesiac_refuses_a_log_whose_samples_cannot_be_found(tmp_path):
    task, (data, test) = Classification(4), sisa_with_ids()
    plain, shorter = (TensorData(data.x[k:], data.labels[k:]) for k in (0, 1))
    model = logged_by_hand(tmp_path / "ids", data)
    logged_by_hand(tmp_path / "positions", plain)
    for folder, today, words in (
        ("ids", plain, "by id, and the training data has no ids now"),
        ("positions", shorter, "by position, and the training data has changed"),
        ("positions", data, "by position, and the training data has changed"),
    ):
        undo = Amnesiac(log=tmp_path / folder, epochs=1, lr=0.0)
        with pytest.raises(ExpungeError, match=words):
            execute(model, Split.by_ids(today, test, [today.samples().ids[2]], validation=0), undo, task)
    undo = Amnesiac(log=tmp_path / "positions", epochs=1, lr=0.0)
    assert execute(model, Split.by_ids(plain, test, [2], validation=0), undo, task).ended == "finished"
    # what an earlier version wrote
    (tmp_path / "old").mkdir()
    old = {"batch/positions": torch.tensor([2]), "weight": model.weight.detach(), "bias": model.bias.detach()}
    save_file(old, tmp_path / "old" / "00000000.safetensors")
    with pytest.raises(ExpungeError, match="earlier version, which did not keep whose positions"):
        execute(
            model, Split.by_ids(plain, test, [2], validation=0), replace(undo, log=tmp_path / "old"), task
        )


def test_a_recorder_finds_its_samples_in_the_data_of_the_training(tmp_path):
    data, _ = sisa_with_ids()
    turned, _ = sisa_with_ids(range(59, -1, -1))
    # u3 is at position 56 of the training, so no step here holds it
    logged_by_hand(tmp_path / "a", turned, data.samples(torch.tensor([3])))
    assert not (tmp_path / "a").exists()
    logged_by_hand(tmp_path / "b", turned, data.samples(torch.tensor([56])))
    assert [file.name for file in (tmp_path / "b").iterdir()] == ["00000000.safetensors"]
    plain, other = TensorData(data.x, data.labels), TensorData(turned.x, turned.labels)
    with pytest.raises(ExpungeError, match="by position in other data"):
        logged_by_hand(tmp_path / "c", other, plain.samples(torch.tensor([3])))


def test_mismatch_tasks_have_the_right_given_and_evaluated_sets():
    g = torch.Generator().manual_seed(0)
    fine = torch.arange(120) % 6
    x, coarse = torch.rand(120, 4, generator=g), [0, 0, 1, 1, 2, 2]
    train, test = (x[:90], fine[:90]), (x[90:], fine[90:])
    for kind, concept, classes in (
        ("match", {2}, 6),
        ("target", {2, 3}, 6),
        ("model", {2}, 3),
        ("data", {2, 3}, 3),
    ):
        task = mismatch(train, test, coarse, 2, kind, validation=0.1, seed=4)
        data = task.given.forget.data
        assert isinstance(data, TensorData) and task.classes == classes == task.given.num_classes
        assert set(fine[task.given.forget.index].tolist()) == {2}
        assert set(fine[task.truth.forget.index].tolist()) == concept
        assert not concept & set(fine[task.truth.retain.index].tolist())
        assert torch.equal(task.given.train.index, task.truth.train.index)
        assert set(fine[90:][task.given.test_forgotten.index].tolist()) == concept
        assert not concept & set(fine[90:][task.given.test.index].tolist())
        expected = fine[:90] if classes == 6 else torch.tensor(coarse)[fine[:90]]
        assert torch.equal(data.labels, expected)
    with pytest.raises(SplitError, match="superclass"):
        mismatch(train, test, [0, 0, 1], 2, "match")


def test_tarf_phases_by_hand(small):
    run = run_of(small)
    method = TARF(epochs=8, strength=0.5, calm_epochs=2, find_epochs=2, beta=0.5, batch_size=16)
    assert [method.ascent_weight(e) for e in (0, 2, 6, 7)] == [0.375, 0.25, 0.0, 0.0]
    f, r = everything(run.split.forget), everything(run.split.retain)
    assert torch.allclose(method.loss(run, f, None), -0.375 * run.task.loss(run.model, f).mean())
    with torch.no_grad():
        run.model[3].bias[1] -= 3
    change = lambda b: (run.task.loss(run.model, b) - run.task.loss(run.original, b)).abs()  # noqa: E731
    run.epoch = 2
    kinds = {(a is None, b is None) for a, b in method.pairs(run)}
    assert kinds == {(False, False)}
    tau = (change(r) <= 0.5 * change(f).mean()).double()
    assert torch.equal(run.memo["rest"][r.index], tau.bool())
    kept = (tau * run.task.loss(run.model, r)).sum() / tau.sum()
    assert torch.allclose(method.loss(run, f, r), -0.25 * run.task.loss(run.model, f).mean() + kept)


# ---- SISA

SISA_SMALL = SISA(shards=3, slices=3, epochs=4, lr=0.1, batch_size=16)


def ensemble_of(small, retained=None, **options):
    """Return an ensemble trained on the whole training set, or on `retained`."""
    from dataclasses import replace

    _, split, task = small
    return SISA_SMALL.train(net, replace(split, retain=retained or split.train), task, seed=5, **options)


def test_sisa_deletion_equals_training_without_the_samples_bit_for_bit(small):
    _, split, task = small
    whole, never = ensemble_of(small), ensemble_of(small, split.retain)
    after = execute(whole, split, SISA_SMALL, task).model
    assert isinstance(after, SisaEnsemble)
    for a, b, c in zip(after.parameters(), never.parameters(), whole.parameters(), strict=True):
        assert torch.equal(a, b) and not torch.equal(a, c)
    assert all(
        torch.equal(a[k], b[k])
        for s, t in zip(after.kept, never.kept, strict=True)
        for a, b in zip(s, t, strict=True)
        for k in a
    )


def test_sisa_retrains_only_the_slices_that_saw_a_sample(small):
    _, split, task = small
    where = SISA_SMALL.places(sample_keys(split.train.data, 5))
    last = split.train.index[where[split.train.index] % 3 == 2][:1]
    gone = Split.by_ids(
        (split.train.data.x, split.train.data.labels),
        (split.test.data.x, split.test.data.labels),
        last.tolist(),
        validation=0.1,
    )
    whole = ensemble_of(small)
    after = execute(whole, gone, SISA_SMALL, task).model
    shard = int(where[last] // 3)
    for s in range(3):
        same = [
            all(torch.equal(a[k], b[k]) for k in a) for a, b in zip(after.kept[s], whole.kept[s], strict=True)
        ]
        # only the sample's slice, the last one, is learned again
        assert same == [True, True, True, s != shard]


def test_sisa_from_a_plain_model_never_sees_the_forget_set(small):
    model, split, task = small
    one = execute(model, split, SISA_SMALL, task, seed=5, factory=net).model
    assert all(
        torch.equal(a, b)
        for a, b in zip(one.parameters(), ensemble_of(small, split.retain).parameters(), strict=True)
    )


def test_sisa_predicts_the_mean_probability_and_can_be_saved(small, tmp_path):
    _, split, task = small
    ensemble = ensemble_of(small).eval()
    x = everything(split.test).x
    mean = torch.stack([m(x).softmax(1) for m in ensemble.shards]).mean(0)
    assert torch.allclose(ensemble(x).exp(), mean)
    ensemble.save(tmp_path)
    again = SisaEnsemble.load(tmp_path, net)
    a, b = (execute(e, split, SISA_SMALL, task).model for e in (ensemble, again))
    assert all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters(), strict=True))
    with pytest.raises(ExpungeError, match="same settings"):
        execute(ensemble, split, SISA(shards=2), task)


def sisa_with_ids(rows=range(60)):
    """Return data with ids of 60 samples of 4 classes, without the samples that are not in `rows`, and a test set."""
    x, y = noise()
    rows = list(rows)
    train = TensorData(x[:60][rows], y[:60][rows], ids=[f"u{n}" for n in rows])
    return train, (x[60:], y[60:])


def seen_by_shards(monkeypatch, deletion):
    """Return the ids that the shards learn in a deletion."""
    seen = set()

    def watched(model, part, *rest, **options):
        seen.update(part.retain.ids)
        return execute(model, part, *rest, **options)

    monkeypatch.setattr(_sisa_shards, "execute", watched)
    deletion()
    return seen


SISA_TINY = SISA(shards=1, slices=1, epochs=1, batch_size=64)


def test_a_loaded_ensemble_keeps_its_requests_and_never_learns_their_samples(tmp_path, monkeypatch):
    task, (data, test) = Classification(4), sisa_with_ids()
    first, second = (Split.by_ids(data, test, [name], validation=0) for name in ("u0", "u7"))
    make = lambda: nn.Linear(5, 4)  # noqa: E731
    ensemble = execute(make(), first, SISA_TINY, task).model
    ensemble.save(tmp_path)
    assert (tmp_path / "requests.json").stat().st_mode & 0o777 == 0o600
    again = SisaEnsemble.load(tmp_path, make)
    assert requests_of(again) == requests_of(ensemble) != ()
    text = (tmp_path / "settings.json").read_text()
    assert first.hash not in text and json.loads(text)["requests"][0].startswith("hmac-sha256:")
    # an earlier version wrote plain hashes, by which anyone with the data can test an id
    (tmp_path / "settings.json").write_text(json.dumps({**json.loads(text), "requests": [first.hash]}))
    assert requests_of(SisaEnsemble.load(tmp_path, make)) == requests_of(ensemble)
    (tmp_path / "settings.json").write_text(text)
    # one shard, so that the deletion of u7 trains on what is left of the samples of u0's shard
    seen = seen_by_shards(monkeypatch, lambda: execute(again, second, SISA_TINY, task))
    assert seen == {f"u{n}" for n in range(60)} - {"u0", "u7"}
    (tmp_path / "requests.json").unlink()
    with pytest.raises(CheckpointError, match=r"lacks 1 of the 1 requests"):
        SisaEnsemble.load(tmp_path, make)


def test_an_ensemble_of_an_earlier_version_says_that_its_requests_are_unknown(small, tmp_path):
    ensemble_of(small).save(tmp_path)
    settings = json.loads((tmp_path / "settings.json").read_text())
    del settings["requests"], settings["data"]
    (tmp_path / "settings.json").write_text(json.dumps(settings))
    for _ in range(2):
        with pytest.warns(RuntimeWarning, match="did not keep the requests"):
            old = SisaEnsemble.load(tmp_path, net)
        # another save does not make known what was never kept
        old.save(tmp_path)
    with pytest.raises(ExpungeError, match="earlier version, which did not keep the samples"):
        execute(old, small[1], SISA_SMALL, small[2])
    (tmp_path / "settings.json").unlink()
    with pytest.raises(CheckpointError, match=r"has no settings\.json"):
        SisaEnsemble.load(tmp_path, net)


def test_a_deletion_finds_the_shard_also_after_the_data_lost_samples(tmp_path):
    task, sisa, (data, test) = (
        Classification(4),
        SISA(shards=3, slices=2, epochs=2, batch_size=64),
        sisa_with_ids(),
    )
    make = lambda: nn.Linear(5, 4)  # noqa: E731
    whole = Split.random(data, test, count=1, validation=0)
    # the first and an early sample are deleted, so that every later one has another position
    rows = [n for n in range(60) if n not in (0, 3)]
    smaller, _ = sisa_with_ids(rows)
    gone = Split.by_ids(smaller, test, ["u41"], validation=0)
    ensemble = sisa.train(make, replace(whole, retain=whole.train), task, seed=5)
    keys = dict(zip(data.ids, sample_keys(data, 5) % 6, strict=True))
    ensemble.save(tmp_path)
    for known in (ensemble, SisaEnsemble.load(tmp_path, make)):
        after = execute(known, gone, sisa, task).model
        changed = [
            not torch.equal(a.weight, b.weight) for a, b in zip(after.shards, known.shards, strict=True)
        ]
        assert changed == [s == keys["u41"] // 2 for s in range(3)]
    # hand-worked: the same sample, whatever the position
    assert {n: int(k) for n, k in zip(smaller.ids, sample_keys(smaller, 5) % 6, strict=True)} == {
        n: int(keys[n]) for n in smaller.ids
    }
    digest = hashlib.sha256(b"5/u41").hexdigest()
    assert keys["u41"] == int(digest[:14], 16) % 6
    # today's training without the samples gives the same shard, bit for bit
    never = sisa.train(make, gone, task, seed=5)
    hit = int(keys["u41"] // 2)
    lost = {int(keys[n] // 2) for n in ("u0", "u3")}
    assert hit not in lost and torch.equal(after.shards[hit].weight, never.shards[hit].weight)


def test_the_slices_of_data_without_ids_stay_the_same():
    """An ensemble that an earlier version saved must find its samples: these numbers never change."""
    data = TensorData(torch.zeros(12, 2), torch.arange(12) % 3)
    assert sample_keys(data, 5).tolist() == [6, 2, 11, 3, 5, 7, 9, 1, 4, 0, 8, 10]
    assert sample_keys(data, 6).tolist() != [6, 2, 11, 3, 5, 7, 9, 1, 4, 0, 8, 10]


def test_a_deletion_refuses_data_in_which_the_samples_of_an_ensemble_cannot_be_found():
    task, (data, test) = Classification(4), sisa_with_ids()
    plain, renamed = TensorData(data.x, data.labels), TensorData(data.x, data.labels, ids=range(60))
    shorter = TensorData(data.x[1:], data.labels[1:])
    by_id, by_position = (
        SISA_TINY.train(lambda: nn.Linear(5, 4), Split.random(d, test, count=1, validation=0), task)
        for d in (data, plain)
    )
    for ensemble, today, words in (
        (by_id, plain, "by id, and the training data has no ids now"),
        (by_id, renamed, r"without any of the 1 forget samples \(first: '7'\)"),
        (by_position, shorter, "by position, and the training data has changed"),
        (by_position, renamed, "by position, and the training data has changed"),
    ):
        with pytest.raises(ExpungeError, match=words):
            execute(ensemble, Split.by_ids(today, test, [7], validation=0), SISA_TINY, task)
    assert (
        execute(by_position, Split.by_ids(plain, test, [7], validation=0), SISA_TINY, task).ended
        == "finished"
    )


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize(
    "method", [BoundaryExpand(epochs=2), BadTeacher(epochs=2), IEU(epochs=2, density=0.5)]
)
def test_a_resumed_run_on_a_gpu_equals_an_uninterrupted_one(classifier, method, tmp_path):
    model = copy.deepcopy(classifier.model).cuda()
    whole = execute(model, classifier.by_class, method, classifier.task)

    def stop(row):
        if row["epoch"] == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        execute(model, classifier.by_class, method, classifier.task, state_file=tmp_path / "s", on_row=stop)
    again = execute(model, classifier.by_class, method, classifier.task, state_file=tmp_path / "s")
    assert all(
        torch.equal(a, b) for a, b in zip(whole.model.parameters(), again.model.parameters(), strict=True)
    )


# ---- withheld samples, precision and refusals


def noise(count=80, classes=4, shape=(5,)):
    """Return random samples in [0, 1] and their labels."""
    draw = torch.Generator().manual_seed(0)
    return torch.rand(count, *shape, generator=draw), torch.arange(count) % classes


def test_ssd_never_sees_withheld_samples():
    x, y = noise()
    split = Split.by_class((x[:60], y[:60]), (x[60:], y[60:]), forget=1, share=0.3)
    seen = set()

    class Watching(Classification):
        def loss(self, model, batch):
            seen.update(batch.index.tolist())
            return super().loss(model, batch)

    execute(nn.Linear(5, 4), split, SSD(paper=True), Watching(4))
    assert len(split.withheld) and not seen & set(split.withheld.index.tolist())


def test_sisa_deletion_is_exact_in_half_precision_and_with_withheld_samples():
    x, y = noise()
    split = Split.by_class((x[:60], y[:60]), (x[60:], y[60:]), forget=1, share=0.3)
    everything = replace(
        split,
        retain=split.train,
        forget=split.forget.take(torch.zeros(0, dtype=torch.int64)),
        withheld=split.withheld.take(torch.zeros(0, dtype=torch.int64)),
    )
    task, sisa, compute = (
        Classification(4),
        SISA(shards=2, slices=2, epochs=2, batch_size=16),
        Compute(amp="bf16"),
    )
    model = nn.Sequential(nn.Linear(5, 6), nn.BatchNorm1d(6), nn.Dropout(), nn.Linear(6, 4)).eval()
    whole = execute(model, everything, sisa, task, seed=3, compute=compute).model
    assert not any(m.training for m in whole.modules()), "the ensemble must keep the eval mode of the model"
    less = execute(whole, split, sisa, task, compute=compute).model
    fresh = execute(model, split, sisa, task, seed=3, compute=compute).model
    assert all(
        torch.equal(a, b)
        for a, b in zip(less.state_dict().values(), fresh.state_dict().values(), strict=True)
    )


@pytest.mark.parametrize("fixed_by", ["freezing", "mask"])
def test_salun_soft_ranks_only_weights_that_may_move(fixed_by):
    x, y = noise()
    split, task = Split.random((x[:60], y[:60]), (x[60:], y[60:]), 0.2), Classification(4)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 64), nn.Tanh(), nn.Linear(64, 4))
    if fixed_by == "freezing":
        model[0].requires_grad_(False)
    mask = {n: torch.full_like(p, n.startswith("2"), dtype=torch.bool) for n, p in model.named_parameters()}
    run = execute(
        model,
        split,
        SalUnSoft(epochs=1, lr=0.1, ratio=0.9),
        task,
        mask=Mask(mask) if fixed_by == "mask" else None,
    )
    share = (run.model[2].weight == model[2].weight).float().mean()
    assert 0.05 < share < 0.95, "some weights return to the original, since the threshold falls to 0"


def test_influence_works_on_models_with_attention():
    x, y = noise(40, 3, (6, 8))
    split, task = Split.random((x[:30], y[:30]), (x[30:], y[30:]), 0.2), Classification(3)
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
    model = nn.Sequential(layer, nn.Flatten(), nn.Linear(48, 3))
    run = execute(model, split, Influence(alpha=1e-3, samples=10), task)
    assert not torch.equal(run.model[2].weight, model[2].weight)


def test_boundary_shrink_refuses_inputs_outside_0_to_1():
    x, y = noise()
    split = Split.random((3 * x[:60] - 1, y[:60]), (x[60:], y[60:]), 0.2)
    with pytest.raises(ExpungeError, match="inside the model"):
        execute(nn.Linear(5, 4), split, BoundaryShrink(), Classification(4))


@pytest.mark.parametrize(
    "method",
    [
        NHLE(epochs=1),
        BiasShift(),
        LBHR(epochs=1),
        TSBGRM(epochs=1),
        FisherForgetting(reset_class=True, samples=10),
    ],
    ids=lambda m: m.name(),
)
def test_edits_of_a_frozen_head_are_refused(method, classifier):
    model = copy.deepcopy(classifier.model)
    model[-1].requires_grad_(False)
    with pytest.raises(ModelError, match="head '7' is frozen"):
        execute(model, classifier.by_class, method, classifier.task)


@pytest.mark.parametrize(
    "method", [NHLE(epochs=1), FisherForgetting(reset_class=True, samples=10), DAMP()], ids=lambda m: m.name()
)
@pytest.mark.parametrize("norm", ["weight_norm", "spectral_norm"])
def test_edits_of_a_parametrized_head_are_refused(method, norm, classifier):
    model = copy.deepcopy(classifier.model)
    getattr(nn.utils.parametrizations, norm)(model[-1])
    with pytest.raises(ModelError, match="computed from other"):
        execute(model, classifier.by_class, method, classifier.task)


@pytest.mark.parametrize("method", [Influence(samples=20), SSD(samples=50), FisherForgetting(samples=20)])
def test_importances_of_half_precision_models_use_full_precision(method, classifier):
    model = copy.deepcopy(classifier.model).bfloat16()
    split = classifier.at_random
    half = TensorData(split.retain.data.x.bfloat16(), split.retain.data.labels)
    half = Split.random(half, TensorData(split.test.data.x.bfloat16(), split.test.data.labels), 0.1)
    run = execute(model, half, method, classifier.task)
    assert run.ended == "finished"
    assert next(run.model.parameters()).dtype == torch.bfloat16
    assert mean_gradient(model, classifier.task, half.forget)["0.weight"].dtype == torch.float32


class Recurrent(nn.Module):
    """A model whose layer has no forward-mode derivative on a CPU."""

    def __init__(self):
        super().__init__()
        self.body, self.head = nn.LSTM(8, 6, batch_first=True), nn.Linear(6, 10)

    def forward(self, x):
        return self.head(self.body(x[:, 0])[0][:, -1])


def test_influence_of_a_model_without_forward_mode(classifier):
    torch.manual_seed(0)
    model, few = Recurrent(), classifier.at_random.forget
    matrix = GradientMatrix(model, classifier.task, few)
    along = {n: torch.randn_like(p) for n, p in model.named_parameters()}
    rows = per_sample_gradients(model, classifier.task, next(few.batches(len(few))))
    wanted = sum((rows[n].flatten(1) @ along[n].flatten()) for n in rows)
    assert torch.allclose(matrix @ along, wanted.double(), atol=1e-4)
    run = execute(model, classifier.at_random, Influence(samples=20), classifier.task)
    assert run.ended == "finished"


def test_a_recorder_refuses_the_log_of_another_training(classifier, tmp_path):
    recipe = AmnesiacRecorder(tmp_path, classifier.at_random.forget).recipe(Retrain(epochs=1, lr=0.01))
    trained = classifier.model, classifier.at_random.for_original, recipe, classifier.task
    execute(*trained)
    with pytest.raises(ExpungeError, match="log of another training"):
        execute(*trained)
