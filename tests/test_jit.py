"""JIT: the ratio for constant and linear models, its literal form, and the released sums."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from expunge.errors import ExpungeError
from expunge.methods.jit import JIT
from expunge.training.execute import execute
from small_problem import everything, gradients, vectors


def run_of(model):
    run = vectors().run()
    run.model = model.double()
    return run


def test_a_linear_model_has_ratios_between_its_singular_values():
    model = nn.Linear(5, 4)
    with torch.no_grad():
        model.weight.copy_(torch.randn(4, 5, generator=torch.Generator().manual_seed(0)))
    run = run_of(model)
    x = everything(run.split.forget).x
    ratios = JIT(copies=3).ratios(run, x)
    # the smallest of W: R^5 -> R^4 is 0, since it has a null space
    assert (ratios <= torch.linalg.matrix_norm(model.weight, 2) + 1e-9).all() and (ratios > 0).all()
    run = run_of(model)
    with torch.no_grad():
        model.weight.mul_(3)
    assert torch.allclose(JIT(copies=3).ratios(run, x), 3 * ratios)
    with torch.no_grad():
        model.weight.zero_()
    run = run_of(model)
    loss = JIT(copies=3).loss(run, everything(run.split.forget), None)
    assert loss.item() == 0 and not any(g.any() for g in gradients(loss, model).values())


def test_loss_equals_its_literal_form():
    run = vectors().run()
    forget = everything(run.split.forget)
    loss = JIT(noise=0.3, copies=2).loss(run, forget, None)
    g = vectors().run().generator("noise")
    total = torch.zeros(())
    for _ in range(2):
        noise = torch.randn(forget.x.shape, generator=g)
        for i in range(len(forget)):
            x = forget.x[i]
            noisy = (x + 0.3 * noise[i]).clamp(forget.x.min(), forget.x.max())
            # only the first output carries a gradient
            change = (run.model(x[None]) - run.model(noisy[None]).detach()).norm()
            total = total + change / (noisy - x).norm() / 2 / len(forget)
    assert loss.item() == pytest.approx(total.item())
    ours, literal = gradients(loss, run.model), gradients(total, run.model)
    assert all(torch.allclose(ours[n], literal[n], atol=1e-6) for n in ours)


def test_as_released_sums_samples_and_adds_up_gradients():
    run, method = vectors().run(), JIT(as_released=True, copies=2)
    first, second = (everything(run.split.forget).take(s) for s in (slice(0, 5), slice(5, 8)))
    grads = [gradients(method.loss(run, batch, None), run.model) for batch in (first, second)]
    plain, each = vectors().run(), []
    for batch in (first, second):
        loss = method.ratios(plain, batch.x).sum()
        each.append(gradients(loss, plain.model))
    for n in each[0]:
        assert torch.allclose(grads[0][n], each[0][n]) and torch.allclose(
            grads[1][n], each[0][n] + each[1][n]
        )


def test_an_unchanged_input_has_no_ratio_and_text_is_refused():
    run = vectors().run()
    same = torch.ones(3, 5, dtype=torch.float64)
    assert not JIT(copies=1).ratios(run, same).any(), (
        "clipping to the range of the batch takes the noise away"
    )
    batch = everything(run.split.forget)
    batch.x = batch.x.long()
    with pytest.raises(ExpungeError, match="images"):
        JIT().loss(run, batch, None)


def test_neither_labels_nor_retain_data_matter():
    model, split, task = vectors()
    results = []
    for labels in (split.forget.data.labels, 3 - split.forget.data.labels):
        data = vectors().split.forget.data
        data.labels = labels
        method = JIT(epochs=2, lr=0.05, max_drop=100.0, copies=2, early_stop=False)
        results.append(execute(model, split, method, task).model.state_dict())
    assert all(torch.equal(v, results[1][n]) for n, v in results[0].items())


def test_a_run_stops_once_forget_samples_are_no_better_than_unseen_ones():
    for problem, target in ((vectors(), 0.0), (vectors(random=True), None)):
        run = problem.run()
        method = JIT()
        method.prepare(run)
        expected = run.task.predict(run.model, run.split.validation).accuracy if target is None else target
        if target is None:
            # weights only give the validation set the class distribution of the forget set
            assert run.memo["stop_target"]["percent"] == pytest.approx(expected, abs=25)
        else:
            assert run.memo["stop_target"]["percent"] == expected
        assert method.stop(run, {"forget": run.memo["stop_target"]["percent"]}) and not method.stop(
            run, {"forget": 101.0}
        )
    method = JIT(early_stop=False)
    method.prepare(run)
    assert method.stop(run, {"forget": 0.0}) is None
