"""Test UGradSL: the smoothed loss, its special cases GA and FT, the adaptive rate and the safeguards."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from torch import nn

from expunge import (
    Classification,
    ExpungeError,
    Split,
    StreamData,
    TensorData,
    UGradSL,
    UGradSLPlus,
    execute,
)
from expunge.methods.finetune import FineTune
from expunge.methods.gradient_ascent import GradientAscent
from expunge.methods.ugradsl import distances, smoothed_loss


def soft_cross_entropy(z, y, alpha):
    k = len(z)
    label = [(1 - alpha) * (j == y) + alpha / k for j in range(k)]
    logp = [v - np.log(np.exp(np.array(z) - max(z)).sum()) - max(z) for v in z]
    return -sum(t * lp for t, lp in zip(label, logp, strict=True))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(-20, 20), min_size=2, max_size=7), st.floats(-8, 1), st.data())
def test_smoothed_loss_equals_soft_label_cross_entropy(z, alpha, pick):
    y = pick.draw(st.integers(0, len(z) - 1))
    loss = smoothed_loss(torch.tensor([z], dtype=torch.float64), torch.tensor([y]), alpha)
    assert loss.item() == pytest.approx(soft_cross_entropy(z, y, alpha), rel=1e-9, abs=1e-9)


def test_smoothed_loss_gradient_is_softmax_minus_label_with_a_rate_per_sample():
    z = torch.randn(4, 5, dtype=torch.float64, requires_grad=True)
    y, alpha = torch.tensor([0, 3, 1, 4]), torch.tensor([0.3, 0.0, -0.5, -4.0], dtype=torch.float64)
    smoothed_loss(z, y, alpha).sum().backward()
    label = (1 - alpha)[:, None] * nn.functional.one_hot(y, 5) + alpha[:, None] / 5
    assert torch.allclose(z.grad, z.detach().softmax(1) - label)
    assert torch.autograd.gradcheck(lambda t: smoothed_loss(t, y, alpha), (z,))


def test_smoothing_gives_a_memorised_sample_a_gradient():
    k, a = 10, 1.0
    z = torch.zeros(1, k, dtype=torch.float64)
    z[0, 0] = 40.0
    for alpha, force in ((0.0, 0.0), (-a, a * (k - 1) / k)):
        logits = z.clone().requires_grad_()
        (-smoothed_loss(logits, torch.tensor([0]), alpha)).sum().backward()
        assert logits.grad[0, 0].item() == pytest.approx(force, abs=1e-9)
        assert logits.grad[0, 1].item() == pytest.approx(-force / (k - 1), abs=1e-9)


# K, r, alpha, p_y / p_k, epsilon of the minimiser of r * CE - CE_alpha, computed by hand and checked by optimisation
@pytest.mark.parametrize(
    ("k", "r", "alpha", "odds", "epsilon"),
    [
        (10, 1.5, -0.1, 41, 3.7136),
        (10, 1.5, -0.5, 1, 0.0),
        (10, 2, -0.4, 16, 2.7726),
        (10, 2, -1.05, 0.52381, 0.6466),
        (100, 1.5, -0.1, 401, 5.9940),
    ],
)
def test_label_privacy_odds_of_theorem_3(k, r, alpha, odds, epsilon):
    def value(free):
        z = torch.tensor(np.concatenate([free, [0.0] * (k - 1)]), dtype=torch.float64, requires_grad=True)
        y = torch.tensor([0])
        loss = r * nn.functional.cross_entropy(z[None], y) - smoothed_loss(z[None], y, alpha).sum()
        loss.backward()
        return loss.item(), z.grad[:1].numpy()

    best = minimize(value, np.zeros(1), jac=True, tol=1e-12)
    assert np.exp(best.x[0]) == pytest.approx(odds, rel=1e-3)
    assert abs(best.x[0]) == pytest.approx(epsilon, abs=1e-3)


@pytest.mark.parametrize(("k", "r", "alpha"), [(10, 2, -2.22), (100, 2, -1.05)])
def test_past_the_bound_the_objective_has_no_minimum(k, r, alpha):
    y = torch.tensor([0])
    values = []
    for z0 in (-10.0, -100.0, -1000.0):
        z = torch.zeros(1, k, dtype=torch.float64)
        z[0, 0] = z0
        values.append((r * nn.functional.cross_entropy(z, y) - smoothed_loss(z, y, alpha).sum()).item())
    assert values[0] > values[1] > values[2]


@pytest.fixture(scope="module")
def setting():
    g = torch.Generator().manual_seed(0)
    y = torch.arange(300) % 3
    x = torch.randn(300, 6, generator=g) + 2 * nn.functional.one_hot(y, 6)
    split = Split.by_class((x[:240], y[:240]), (x[240:], y[240:]), forget=1)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 3))
    return model, split, Classification(3)


def same(a, b):
    return all(
        torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True)
    )


COMMON = {"epochs": 3, "lr": 0.05, "batch_size": 32, "clip": None, "max_drop": 100.0, "probe_every": 0}


def test_p_1_equals_fine_tuning_step_for_step(setting):
    model, split, task = setting
    ours = execute(model, split, UGradSLPlus(p=1.0, early_stop=False, **COMMON), task, seed=4)
    assert same(ours.model, execute(model, split, FineTune(**COMMON), task, seed=4).model)


def test_p_0_without_smoothing_equals_gradient_ascent_step_for_step(setting):
    model, split, task = setting
    plain = UGradSL(p=0.0, smoothing=0.0, paper=True, **{**COMMON, "lr": 0.01})
    assert same(
        execute(model, split, plain, task, seed=4).model,
        execute(model, split, GradientAscent(**{**COMMON, "lr": 0.01}), task, seed=4).model,
    )


def test_loss_equals_the_equation_with_means(setting):
    model, split, task = setting
    run = execute(model, split, UGradSL(epochs=1, lr=0.0), task)
    run.model.eval()
    f, r = next(split.forget.batches(20)), next(split.retain.batches(20))
    method = UGradSL(p=0.7, smoothing=-0.5, gate=False)
    zf, zr = run.model(f.x), run.model(r.x)
    want = 0.7 * nn.functional.cross_entropy(zr, r.y) - 0.3 * smoothed_loss(zf, f.y, -0.5).mean()
    assert method.loss(run, f, r).item() == pytest.approx(want.item(), rel=1e-5)


def test_the_gate_stops_the_gradient_of_forgotten_samples(setting):
    model, split, task = setting
    run = execute(model, split, UGradSL(epochs=1, lr=0.0), task)
    f = next(split.forget.batches(20))
    # no confidence is above 1
    run.memo["gate"] = 1.0
    logits = run.model(f.x)
    loss = UGradSL()._ascent(run, logits, f.y, torch.tensor(-0.2))
    assert not torch.autograd.grad(loss, logits, allow_unused=True)[0].any()


def test_adaptive_rates_by_hand(setting):
    model, split, task = setting
    run = execute(model, split, UGradSL(epochs=1, lr=0.0), task)
    retain = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.6, 0.8]])
    forget = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    assert torch.allclose(
        distances(retain, forget), torch.tensor([[0.0, 1.0], [0.0, 1.0], [1.0, 0.0], [0.4, 0.2]]), atol=1e-6
    )
    # negative features: half of 1 - cosine
    assert torch.allclose(distances(-retain, forget)[0], torch.tensor([1.0, 0.5]))
    run.memo["beta"] = 0.3
    assert torch.allclose(
        UGradSL(rate="adaptive", max_rate=2.0).rates(run, retain, forget), torch.tensor([-1.0, -1.0])
    )
    run.memo["beta"] = 0.1
    assert torch.allclose(UGradSL(rate="literal").rates(run, retain, forget), torch.tensor([-0.5, -0.25]))
    assert torch.allclose(UGradSL(rate="adaptive").rates(run, retain, forget), torch.tensor([-0.5, -0.75]))
    del run.memo["beta"]
    UGradSL(rate="adaptive").rates(run, retain, forget)
    assert run.memo["beta"] == pytest.approx(float(distances(retain, forget).median()))


@pytest.mark.parametrize("rate", ["fixed", "adaptive", "literal"])
def test_it_forgets_a_class_and_keeps_the_others(setting, rate):
    model, split, task = setting
    # a model that knows the retained classes
    start = execute(model, split, FineTune(epochs=20, lr=0.1, batch_size=32), task).model
    method = UGradSLPlus(epochs=10, lr=0.05, batch_size=32, smoothing=-1.0, rate=rate)
    after = execute(start, split, method, task)
    assert task.predict(after.model, split.forget).accuracy <= 5
    assert task.predict(after.model, split.retain).accuracy >= task.predict(start, split.retain).accuracy - 5


def test_stop_rule_ends_the_run_early(setting):
    model, split, task = setting
    run = execute(model, split, UGradSLPlus(epochs=50, lr=0.05, batch_size=32, probe_every=2), task)
    assert run.ended == "stopped" and not run.taken_back and run.epoch < 50


def test_paper_turns_the_safeguards_off():
    method = UGradSL(paper=True)
    assert (method.gate, method.clip, method.early_stop, method.max_drop) == (False, None, False, 100.0)


def test_settings_out_of_range_are_refused():
    problems = replace(UGradSL(), p=1.5, smoothing=0.3, max_rate=-1.0).problems()
    assert len(problems) == 3
    assert not UGradSL(smoothing=0.3, allow_positive=True).problems()


def test_positive_smoothing_is_refused_before_anything_runs(setting):
    with pytest.raises(ExpungeError, match="at most 0"):
        execute(*setting[:2], UGradSL(smoothing=0.5), setting[2])


def test_random_forgetting_takes_its_gate_from_validation(setting):
    model, _, task = setting
    g = torch.Generator().manual_seed(1)
    y = torch.arange(200) % 3
    x = torch.randn(200, 6, generator=g)
    split = Split.random(TensorData(x[:150], y[:150]), (x[150:], y[150:]), 0.2)
    run = execute(model, split, UGradSL(epochs=1, lr=0.0), task)
    seen = task.predict(model, split.validation)
    assert run.memo["gate"] == pytest.approx(seen.confidence.mean().item(), rel=1e-4)
    assert run.memo["stop_target"]["percent"] == pytest.approx(seen.accuracy, rel=1e-4)


@pytest.mark.parametrize("rate", ["fixed", "adaptive"])
def test_texts_padded_batch_by_batch(rate):
    """Forget and retain batches then differ in length, so each gets its own forward pass."""
    draw = torch.Generator().manual_seed(0)
    texts = [
        torch.randint(1, 20, (int(n),), generator=draw) for n in torch.randint(3, 12, (60,), generator=draw)
    ]
    pairs = [(t, i % 3) for i, t in enumerate(texts)]

    def padded(items):
        x = nn.utils.rnn.pad_sequence([t for t, _ in items], batch_first=True)
        return x, torch.tensor([y for _, y in items])

    class Bag(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.head = nn.Embedding(20, 8, padding_idx=0), nn.Linear(8, 3)

        def forward(self, x):
            return self.head(self.embed(x).sum(1))

    train, test = (
        StreamData(part, labels=[y for _, y in part], collate=padded) for part in (pairs[:45], pairs[45:])
    )
    split = Split.random(train, test, 0.2)
    torch.manual_seed(0)  # the parameters are the same in every order of tests
    run = execute(Bag(), split, UGradSLPlus(epochs=1, batch_size=4, rate=rate), Classification(3))
    assert run.ended in ("finished", "stopped")
