"""Test NHLE and class weight masking: the losses, the parameters that may move, and the masked head."""

import copy
from collections import OrderedDict
from dataclasses import replace

import pytest
import torch
from torch import nn

from expunge import NHLE, Classification, ExpungeError, ModelError, Split, execute, mask_class_weights
from expunge.methods.nhle import bounded_loss, negative_hot
from expunge.training.run import Run


@pytest.fixture(scope="module")
def setting():
    g = torch.Generator().manual_seed(0)
    y = torch.arange(400) % 4
    x = torch.randn(400, 8, generator=g) + 3 * nn.functional.one_hot(y, 8)
    split = Split.by_class((x[:320], y[:320]), (x[320:], y[320:]), forget=[1])
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 24), nn.BatchNorm1d(24), nn.ReLU(), nn.Dropout(0.2), nn.Linear(24, 4))
    opt = torch.optim.Adam(model.parameters(), 0.02)
    for _ in range(150):
        opt.zero_grad()
        nn.functional.cross_entropy(model(x[:320]), y[:320]).backward()
        opt.step()
    return model.eval(), split, Classification(4)


def test_bounded_loss_is_minus_log_of_1_minus_p_and_the_odds_times_plain_ascent():
    z = torch.randn(6, 5, dtype=torch.float64, requires_grad=True)
    p = z.softmax(1)
    assert torch.allclose(bounded_loss(z, [2]), -torch.log(1 - p[:, 2]))
    assert torch.allclose(bounded_loss(z, [2, 4]), -torch.log(1 - p[:, 2] - p[:, 4]))
    # half precision would lose this difference
    late = torch.tensor([[9.0, -4.0, 1.0]], dtype=torch.bfloat16)
    assert bounded_loss(late, [1]).item() == pytest.approx(bounded_loss(late.double(), [1]).item(), rel=1e-2)
    ours = torch.autograd.grad(bounded_loss(z, [2]).sum(), z)[0]
    plain = torch.autograd.grad(p[:, 2].log().sum(), z, retain_graph=True)[0]
    assert torch.allclose(ours, (p[:, 2] / (1 - p[:, 2])).detach()[:, None] * plain)


def test_bounded_loss_has_a_finite_value_and_a_gradient_for_certain_predictions():
    z = torch.tensor([[200.0, 0, 0]], requires_grad=True)
    loss = bounded_loss(z, [0])
    loss.sum().backward()
    assert loss.isfinite().all() and z.grad[0, 0] == pytest.approx(1.0)


def test_the_anchor_adds_the_squared_distance_to_the_original(setting):
    model, split, task = setting
    run = Run(copy.deepcopy(model), split, task, source=model)
    with torch.no_grad():
        for parameter in run.model.parameters():
            parameter += 0.1
    forget = next(split.forget.batches(16))
    free, held = (NHLE(anchor=anchor).loss(run, forget, None) for anchor in (0.0, 0.5))
    count = sum(p.numel() for p in model.parameters())
    assert (held - free).item() == pytest.approx(0.5 * count * 0.1**2, rel=1e-3)


def test_the_last_block_is_that_before_the_head():
    part = lambda: nn.Sequential(nn.Conv2d(1, 1, 3, padding=1), nn.BatchNorm2d(1))  # noqa: E731
    model = nn.Sequential(
        OrderedDict(
            stem=nn.Sequential(part(), part()),
            body=nn.Sequential(part(), part()),
            flat=nn.Flatten(),
            head=nn.Linear(4, 3),
        )
    )
    y = torch.arange(30) % 3
    x = torch.randn(30, 1, 2, 2)
    split = Split.by_class((x[:24], y[:24]), (x[24:], y[24:]), forget=1)
    run = Run(model, split, Classification(3))
    frozen = NHLE(trainable="last_block").frozen(run)
    movable = {n for n, _ in model.named_parameters()} - frozen
    assert movable == {"body.1.0.weight", "body.1.0.bias", "body.1.1.weight", "body.1.1.bias"}
    assert NHLE().frozen(run) == {"head.weight", "head.bias"} and not NHLE(trainable="all").frozen(run)


def test_trials_guard_by_retained_samples_where_there_are_any(setting):
    model, split, task = setting
    assert NHLE().adapted(Run(model, split, task))["guard"] == "retain"
    bare = replace(split, retain=split.retain.take(slice(0)))
    assert "guard" not in NHLE().adapted(Run(model, bare, task))


def test_mse_has_the_fixed_point_of_the_label():
    z = torch.zeros(1, 10)
    z[0, 3] = 8.0
    z.requires_grad_()
    opt = torch.optim.SGD([z], 2.0)
    for _ in range(500):
        opt.zero_grad()
        NHLE(loss_kind="mse_logits").objective(z, [3]).backward()
        opt.step()
    assert torch.allclose(z.detach()[0], negative_hot([3], 10), atol=1e-4)
    assert z.softmax(1)[0, 3].item() == pytest.approx(0.03927, abs=1e-4)


@pytest.mark.parametrize("kind", ["ce", "submax", "uniform"])
def test_other_losses_by_their_definition(kind):
    z = torch.randn(5, 6, dtype=torch.float64)
    p = z.softmax(1)
    loss = NHLE(loss_kind=kind).objective(z, [1, 2])
    if kind == "ce":
        want = (p[:, 1].log() + p[:, 2].log()).mean()
    else:
        rest = p.clone()
        rest[:, [1, 2]] = 0
        kept = [0, 3, 4, 5]
        want = -(rest.max(1).values.log().mean() if kind == "submax" else p[:, kept].log().mean(1).mean())
    assert loss.item() == pytest.approx(want.item(), rel=1e-9)


def test_only_a_few_forget_samples_are_read_and_retain_data_never(setting, monkeypatch):
    model, split, task = setting
    seen = []
    kind = type(split.retain.data)
    plain = kind.batches

    def watched(self, order, *rest):
        seen.append(order.clone())
        return plain(self, order, *rest)

    monkeypatch.setattr(
        task.__class__, "check", lambda *a: None
    )  # which looks at two retained samples' shapes
    monkeypatch.setattr(kind, "batches", watched)
    run = execute(model, split, NHLE(samples=5, epochs=3, lr=1e-3, probe_every=100), task)
    assert len(run.memo["few"]) == 5
    assert not torch.isin(torch.cat(seen), split.retain.index).any()


def test_statistics_and_head_stay_and_the_class_is_forgotten(setting):
    model, split, task = setting
    before = copy.deepcopy(model.state_dict())
    run = execute(model, split, NHLE(lr=0.03, masking="none"), task)
    after = run.model.state_dict()
    for name in before:
        if "running" in name or "num_batches" in name or name.startswith("4."):
            assert torch.equal(before[name], after[name]), name
    assert task.predict(run.model, split.forget).accuracy < 20
    assert task.predict(run.model, split.test).accuracy > task.predict(model, split.test).accuracy - 5
    assert run.ended == "stopped" and run.status.startswith("stopped")


@pytest.mark.parametrize("how", ["neg_inf", "zero"])
def test_masking_is_idempotent_and_leaves_other_logits_bit_identical(setting, how):
    model, split, task = setting
    x = next(split.test.batches(64)).x
    before = model(x)
    masked = mask_class_weights(copy.deepcopy(model), task, [1], how)
    once = masked(x)
    assert torch.equal(before[:, [0, 2, 3]], once[:, [0, 2, 3]])
    twice = mask_class_weights(masked, task, [1], how)(x)
    assert torch.equal(once, twice)
    if how == "neg_inf":
        assert (once.argmax(1) != 1).all() and once.half().isfinite().all()
    else:
        assert (once[:, 1] == 0).all()


def test_masking_several_classes_and_its_refusals(setting):
    model, split, task = setting
    masked = mask_class_weights(copy.deepcopy(model), task, [0, 1])
    assert set(masked(next(split.test.batches(64)).x).argmax(1).tolist()) <= {2, 3}
    with pytest.raises(ModelError, match="leaves none"):
        mask_class_weights(copy.deepcopy(model), task, [0, 1, 2, 3])
    with pytest.raises(ModelError, match="no bias"):
        mask_class_weights(nn.Linear(8, 4, bias=False), task, [0])
    with pytest.raises(ExpungeError, match="'random'"):
        random = Split.random(
            (torch.randn(40, 8), torch.arange(40) % 4), (torch.randn(8, 8), torch.arange(8) % 4), 0.2
        )
        execute(model, random, NHLE(), task)


def test_the_table_has_four_cells_and_shows_what_masking_alone_does(setting):
    model, split, task = setting
    method = NHLE(lr=0.03)
    run = execute(model, split, method, task)
    rows = {(r["nhle"], r["masking"]): r for r in method.details(run)["table2x2"]}
    assert len(rows) == 4
    assert rows[False, True]["forget_accuracy"] == 0 and rows[False, False]["forget_accuracy"] > 90
    assert rows[True, True]["test_retain_accuracy"] == task.predict(run.model, split.test).accuracy


def test_literal_cross_entropy_warns_and_needs_a_clip(setting):
    model, split, task = setting
    with pytest.warns(UserWarning, match="unbounded"):
        execute(model, split, NHLE(loss_kind="ce", epochs=1), task)
    assert NHLE(loss_kind="ce", clip=None).problems()


@pytest.mark.parametrize(("trainable", "moves"), [("features", {"0", "1"}), ("all", {"0", "1", "4"})])
def test_only_trainable_parameters_move(setting, trainable, moves):
    model, split, task = setting
    run = execute(
        model, split, NHLE(trainable=trainable, masking="none", epochs=5, lr=0.01, samples=10), task
    )
    changed = {
        n.split(".")[0]
        for (n, a), b in zip(model.named_parameters(), run.model.parameters(), strict=True)
        if not torch.equal(a, b)
    }
    assert changed == moves


def test_the_recorded_mask_holds_every_weight_that_changed():
    """The mask holds the rows that masking changes, so a receipt's check of the mask passes."""
    torch.manual_seed(0)
    y = torch.arange(60) % 3
    x = torch.randn(60, 4) + 3 * nn.functional.one_hot(y, 4)
    split = Split.by_class((x[:45], y[:45]), (x[45:], y[45:]), forget=1)
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
    for method in (NHLE(epochs=3, lr=0.1), NHLE(epochs=3, lr=0.1, density=0.5)):
        run = execute(model, split, method, Classification(3))
        after = dict(run.model.named_parameters())
        for name, weight in model.named_parameters():
            assert not ((after[name] != weight) & ~run.mask[name]).any(), name


def test_a_head_without_bias_is_refused_before_the_run():
    y = torch.arange(60) % 3
    x = torch.randn(60, 4) + 3 * nn.functional.one_hot(y, 4)
    split, steps = Split.by_class((x[:45], y[:45]), (x[45:], y[45:]), forget=1), []
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3, bias=False))
    with pytest.raises(ModelError, match="no bias"):
        execute(model, split, NHLE(), Classification(3), on_row=steps.append)
    assert not steps
    run = execute(model, split, NHLE(masking="none", epochs=2), Classification(3))
    assert len(NHLE(masking="none").details(run)["table2x2"]) == 4


def test_the_guard_on_retained_samples_measures_the_masked_model(setting):
    model, split, task = setting
    # many retained samples are taken for the forgotten class, which masking makes impossible
    model = copy.deepcopy(model)
    with torch.no_grad():
        model[-1].bias[1] += 8
    method = NHLE(guard="retain", epochs=4, probe_every=1, max_drop=100)
    run = execute(model, split, method, task)
    masked = mask_class_weights(copy.deepcopy(model), task, [1], "neg_inf", split.forget)
    # up to 512 samples are evaluated, so this is all of the retain set
    assert len(split.retain) <= 512
    assert task.predict(masked, split.retain).accuracy > task.predict(model, split.retain).accuracy + 10
    assert run.history[0]["retain"] == pytest.approx(task.predict(masked, split.retain).accuracy)
    assert run.history[-1]["retain"] == pytest.approx(task.predict(run.model, split.retain).accuracy)
    # the head of each row was put back: only the forget curve shows the unmasked model
    assert run.history[0]["forget"] == pytest.approx(task.predict(model, split.forget).accuracy)


def test_the_guard_keeps_the_drop_on_retained_samples(setting):
    """Negative control: without a limit, the same run loses more. Without validation samples, both guards use the retain set."""
    model, split, task = setting
    never = split.validation.take(slice(0))
    strong = {
        "lr": 1.0,
        "clip": None,
        "loss_kind": "uniform",
        "epochs": 30,
        "probe_every": 1,
        "trainable": "all",
    }
    before = task.predict(model, split.retain).accuracy
    bare = replace(split, validation=never, held_out=split.held_out[:0])
    free = execute(model, bare, NHLE(max_drop=100.0, **strong), task)
    by_default = execute(model, bare, NHLE(**strong), task)
    with pytest.warns(RuntimeWarning):
        held = execute(model, replace(split, validation=never), NHLE(guard="retain", **strong), task)
    assert task.predict(free.model, split.retain).accuracy < before - 3.5
    assert task.predict(by_default.model, split.retain).accuracy >= before - 3.5
    assert by_default.notes and not free.notes
    assert task.predict(held.model, split.retain).accuracy >= before - 3.5
