"""The loop: which batches each schedule gives, rates, guards, accumulation, precision, compile, nothing handed in touched."""

import copy
import sys
from collections import Counter
from dataclasses import dataclass, replace

import pytest
import torch
from torch import nn

from expunge import (
    Classification,
    Compute,
    ExpungeError,
    MaskError,
    ModelError,
    Normalize,
    Retrain,
    SalUn,
    Split,
    execute,
    unlearn,
)
from expunge.audit.evaluation import evaluate
from expunge.data.stream import StreamData
from expunge.masks.mask import random_mask
from expunge.methods.amnesiac import Amnesiac
from expunge.methods.bad_teacher import BadTeacher
from expunge.methods.damp import DAMP
from expunge.methods.finetune import FineTune
from expunge.methods.fisher_forgetting import FisherForgetting
from expunge.methods.gradient_ascent import GradientAscent
from expunge.methods.ieu import IEU
from expunge.methods.nhle import NHLE
from expunge.methods.random_label import RandomLabel
from expunge.methods.retrain import reset
from expunge.methods.salun_soft import SalUnSoft
from expunge.methods.sisa import SISA
from expunge.methods.ssd import SSD
from expunge.methods.ugradsl import UGradSL
from expunge.pipeline.experiment import experiment, record_of
from expunge.torch_utils.module_state import is_finite
from expunge.training.loop import rate
from expunge.training.run import Run
from expunge.training.schedule import pairs, pieces, steps_per_epoch
from expunge.tuning.estimate import distance_to_retrained
from expunge.tuning.trials import tune


@pytest.fixture(scope="module")
def setting():
    g = torch.Generator().manual_seed(0)
    y = torch.arange(250) % 5
    x = torch.randn(250, 8, generator=g) + 3 * nn.functional.one_hot(y, 8)
    split = Split.random((x[:200], y[:200]), (x[200:], y[200:]), 0.2)
    torch.manual_seed(0)
    return (
        nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 5)),
        split,
        Classification(5),
    )


def same(a, b):
    return all(
        torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True)
    )


@pytest.mark.parametrize(
    "schedule", ["forget", "retain", "forget+retain", "retain+forget", "sequential", "mixed"]
)
def test_each_schedule_passes_once_over_what_it_says(setting, schedule):
    model, split, task = setting
    run = Run(model, split, task)
    got = list(pairs(run, schedule, 32))
    assert len(got) == steps_per_epoch(run, schedule, 32)
    forget = Counter(i for f, _ in got if f is not None for i in f.index.tolist())
    retain = Counter(i for _, r in got if r is not None for i in r.index.tolist())
    whole = {
        "forget": (1, 0),
        "retain": (0, 1),
        "forget+retain": (1, None),
        "retain+forget": (None, 1),
        "sequential": (1, 1),
        "mixed": (1, 1),
    }
    for seen, samples, times in (
        (forget, split.forget, whole[schedule][0]),
        (retain, split.retain, whole[schedule][1]),
    ):
        assert set(seen) <= set(samples.index.tolist())
        if times is not None:
            assert all(seen[i] == times for i in samples.index.tolist())
    if "+" in schedule:
        assert all(len(f) == len(r) for f, r in got)
    if schedule == "sequential":
        kinds = ["f" if r is None else "r" for _, r in got]
        assert kinds == sorted(kinds)


def test_streams_do_not_move_each_other(setting):
    model, split, task = setting
    alone = [r.index for _, r in pairs(Run(model, split, task), "retain", 32)]
    beside = [r.index for _, r in pairs(Run(model, split, task), "retain+forget", 32)]
    assert all(torch.equal(a, b) for a, b in zip(alone, beside, strict=True))


def test_rates_by_hand():
    assert [rate("constant", 4)(s) for s in range(4)] == [1, 1, 1, 1]
    assert [rate("linear", 4)(s) for s in range(4)] == [1, 0.75, 0.5, 0.25]
    assert rate("cosine", 10)(5) == pytest.approx(0.5)
    assert [rate("multistep", 8)(s) for s in (0, 4, 6)] == pytest.approx([1, 0.1, 0.01])
    cycle = [rate("one_cycle", 20)(s) for s in range(20)]
    assert max(cycle) == 1 and cycle[0] == 0.2 and 0 < cycle[-1] < 0.1
    # one step of four rises, and a run of one step takes it whole
    assert [rate("one_cycle", 4)(s) for s in range(4)] == [1, 0.75, 0.5, 0.25]
    assert rate("one_cycle", 1)(0) == 1


def test_inputs_are_left_unchanged(setting):
    model, split, task = setting
    model.train()
    model[0].eval()
    model[3].bias.requires_grad_(False)
    kept = {k: v.clone() for k, v in model.state_dict().items()}
    state = torch.get_rng_state()
    after = unlearn(model, split, FineTune(epochs=2, lr=0.1), task)
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(kept[k], v) for k, v in model.state_dict().items())
    assert model.training and not model[0].training and not model[3].bias.requires_grad
    assert (
        after.training
        and not after[0].training
        and torch.equal(after[3].bias, model[3].bias)
        and not same(model, after)
    )
    model[3].bias.requires_grad_(True)
    model[0].train()


def test_same_seed_same_weights(setting):
    model, split, task = setting
    runs = [execute(model, split, SalUn(epochs=2, batch_size=32), task, seed=s).model for s in (1, 1, 2)]
    assert same(runs[0], runs[1]) and not same(runs[0], runs[2])


def test_random_labels_exclude_the_true_one_unless_paper(setting):
    model, split, task = setting
    run = Run(model, split, task)
    y = torch.arange(5).repeat(2000)
    for method, low in ((RandomLabel(), 0.0), (RandomLabel(paper=True), 0.17)):
        other = method.other_labels(run, y)
        hit = (other == y).float().mean().item()
        assert hit == 0 if low == 0 else low < hit < 0.23
        counts = torch.bincount((other - y) % 5, minlength=5)[1:]
        assert counts.min() > 0.8 * counts.max()
    assert RandomLabel(relabel="next").other_labels(run, torch.tensor([3, 4])).tolist() == [4, 0]


def test_labels_of_a_request_for_several_classes_are_of_none_of_them(setting):
    model, drawn, task = setting
    split = Split.by_class(drawn.train.data, drawn.test.data, forget=[1, 3])
    run, y = Run(model, split, task), torch.tensor([1, 3] * 500)
    for method in (RandomLabel(), Amnesiac()):
        if isinstance(method, RandomLabel):
            labels = method.other_labels(run, y)
        else:
            method.prepare(run)
            labels = run.memo["labels"][split.forget.index]
        assert set(labels.tolist()) == {0, 2, 4}
    # the released code draws over all classes
    assert set(RandomLabel(paper=True).other_labels(run, y).tolist()) == {0, 1, 2, 3, 4}
    assert RandomLabel(relabel="next").other_labels(run, y)[:2].tolist() == [2, 4]


def test_divergence_keeps_the_last_good_state_and_says_what_to_change(setting):
    model, split, task = setting
    with pytest.warns(RuntimeWarning, match="^GradientAscent .*Lower lr"):
        run = execute(model, split, GradientAscent(epochs=30, lr=1e6, batch_size=8), task)
    assert "the last good state" in run.status and run.taken_back
    assert run.ended == ("stopped" if "stopped" in run.status else "diverged")
    assert all(v.isfinite().all() for v in run.model.state_dict().values() if v.is_floating_point())
    assert same(run.model, model) or run.history[-1]["step"] > 0


def test_collapse_is_a_divergence_within_max_drop(setting):
    model, split, task = setting
    good = unlearn(model, split, FineTune(epochs=30, lr=0.1, batch_size=32), task)
    with pytest.warns(RuntimeWarning, match="max_drop"):
        run = execute(good, split, GradientAscent(epochs=200, lr=0.03, batch_size=8, max_drop=10), task)
    kept = task.predict(run.model, split.retain).accuracy
    assert kept >= task.predict(good, split.retain).accuracy - 10


def test_accumulation_gives_the_whole_batch_gradient(setting):
    _, split, task = setting
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 5)
    )  # without batch norm, which sees the pieces
    whole, pieces = (
        execute(
            model, split, FineTune(epochs=2, lr=0.1, batch_size=32), task, compute=Compute(accumulate=k)
        ).model
        for k in (1, 4)
    )
    for a, b in zip(whole.parameters(), pieces.parameters(), strict=True):
        assert torch.allclose(a, b, atol=1e-5)


def test_the_mask_of_the_released_code_does_not_depend_on_accumulation(setting):
    """Its batches are part of the result, and stay the method's."""
    model, split, task = setting
    masks = [
        execute(
            model,
            split,
            SalUn(epochs=1, batch_size=16, paper=True),
            task,
            compute=Compute(accumulate=k),
        ).mask
        for k in (1, 4)
    ]
    assert all(torch.equal(masks[0][n], masks[1][n]) for n in masks[0])


def test_a_state_of_differently_normalised_data_is_refused(setting, tmp_path):
    model, split, task = setting
    file, seen = tmp_path / "state", []

    def stop(row):
        seen.append(row)
        if len(seen) > 3:
            raise KeyboardInterrupt

    method = FineTune(epochs=6, batch_size=32)
    with pytest.raises(KeyboardInterrupt):
        execute(model, split, method, task, state_file=file, on_row=stop)
    assert file.exists()
    data = split.retain.data
    try:
        data.normalize = Normalize((0.5,) * 8, (2.0,) * 8)
        with pytest.raises(ExpungeError, match="state of another run"):
            execute(model, split, method, task, state_file=file)
    finally:
        data.normalize = None
    assert execute(model, split, method, task, state_file=file).status == "finished"


def test_a_union_in_pieces_is_one_mean(setting):
    """The pieces of a mixed batch hold forget and retain samples in other shares than the batch does."""
    _, split, _ = setting
    f, r = split.forget.batches(5), split.retain.batches(27)
    pair, value = (next(f), next(r)), torch.linspace(0, 1, 250)
    whole = torch.cat([value[b.index] for b in pair]).mean()
    cut = list(pieces(pair, 4, union=True))
    parts = sum(share * torch.cat([value[b.index] for b in both]).mean() for both, share in cut)
    assert len(cut) == 4 and abs(parts - whole) < 1e-6


def test_a_lone_sample_that_torch_compile_meets(setting, monkeypatch):
    """It hands the error of batch norm on as another kind."""
    loop = sys.modules["expunge.training.loop"]
    model, split, task = setting
    step, failed = loop._step, []

    def compiled(*args):
        if not failed:
            failed.append(1)
            raise RuntimeError(f"failed in a compiled graph: Expected {loop.SINGLE_SAMPLE} when training")
        return step(*args)

    monkeypatch.setattr(loop, "_step", compiled)
    assert execute(model, split, FineTune(epochs=1, batch_size=32), task).status == "finished" and failed


@pytest.mark.parametrize("compute", [Compute(amp="bf16"), Compute(channels_last=True)])
def test_precision_and_memory_format_run_and_are_restored(setting, compute):
    model, split, task = setting
    run = execute(model, split, SalUn(epochs=1, batch_size=32), task, compute=compute)
    assert all(p.dtype == torch.float32 and p.is_contiguous() for p in run.model.parameters())


@pytest.mark.slow
def test_compiled_run_agrees(setting):
    model, split, task = setting
    plain, compiled = (
        execute(
            model, split, FineTune(epochs=2, lr=0.1, batch_size=32), task, compute=Compute(compile=c)
        ).model
        for c in (False, True)
    )
    for a, b in zip(plain.parameters(), compiled.parameters(), strict=True):
        assert torch.allclose(a, b, atol=1e-4)


def test_retrain_starts_afresh_and_never_sees_the_forget_set(setting):
    model, split, task = setting
    run = execute(model, split, Retrain(epochs=1, lr=0.0), task, seed=3)
    assert not torch.equal(run.model[0].weight, model[0].weight)
    assert same(run.model[0], execute(model, split, Retrain(epochs=1, lr=0.0), task, seed=3).model[0])


def test_reset_names_what_it_cannot_reach():
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.ones(2))
            self.body = nn.Linear(2, 2)

    class Above(Odd):
        """A reset of its own, that of what is below it is not."""

        def __init__(self):
            super().__init__()
            self.below = Odd()

        def reset_parameters(self):
            nn.init.ones_(self.scale)

    with pytest.raises(ModelError, match=r"1 parameters .*\['scale'\].*factory"):
        reset(Odd())
    with pytest.raises(ModelError, match=r"1 parameters .*below\.scale.*factory"):
        reset(Above())
    for wrap in (torch.nn.utils.parametrizations.weight_norm, torch.nn.utils.parametrizations.spectral_norm):
        with pytest.raises(ModelError, match=r"weight.*weight_norm.*factory"):
            reset(nn.Sequential(wrap(nn.Linear(2, 2))))


def test_reset_resets_a_module_after_its_parts():
    class Small(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Linear(2, 2)

        def reset_parameters(self):
            nn.init.constant_(self.body.weight, 0.5)

    assert bool((reset(Small()).body.weight == 0.5).all())
    assert not nn.Module.__call__(reset(nn.MultiheadAttention(4, 2)), *[torch.zeros(1, 1, 4)] * 3)[0].any()


class Remembers(nn.Module):
    """What it saw in training is a buffer, and nothing sets it anew."""

    def __init__(self):
        super().__init__()
        self.register_buffer("seen", torch.zeros(8))
        self.register_buffer("constant", torch.ones(8))

    def forward(self, x):
        if self.training:
            self.seen.mul_(0.9).add_(0.1 * x.mean(0))
        return (x - self.seen) * self.constant


def test_retrain_refuses_buffers_that_keep_traces_of_the_forget_set(setting):
    _, split, task = setting
    model = nn.Sequential(Remembers(), nn.Linear(8, 5))
    once = Retrain(epochs=1)
    for method in (once, SISA(epochs=1, shards=1, slices=1)):
        with pytest.raises(ModelError, match=r"1 buffers .*0\.seen.*factory"):
            execute(model, split, method, task)
    fresh = lambda: nn.Sequential(Remembers(), nn.Linear(8, 5))  # noqa: E731
    assert execute(model, split, once, task, factory=fresh).ended == "finished"


def test_buffers_that_keep_traces_are_found_with_one_retained_sample(setting):
    """Batch norm takes no batch of one sample in training, and is not what is asked about."""
    _, split, task = setting
    model = nn.Sequential(Remembers(), nn.BatchNorm1d(8), nn.Linear(8, 5))
    one = replace(split, retain=split.retain.take(slice(1)))
    with pytest.raises(ModelError, match=r"1 buffers .*0\.seen.*factory"):
        execute(model, one, Retrain(epochs=1), task)
    assert model[1].num_batches_tracked == 0 and not model[0].seen.any()


def test_bad_teacher_takes_a_model_whose_layers_share_a_weight(setting):
    _, split, task = setting
    model = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8), nn.Linear(8, 5))
    model[2].weight = model[0].weight
    assert execute(model, split, BadTeacher(), task).ended == "finished"


def test_settings_are_refused_all_at_once(setting):
    model, split, task = setting
    with pytest.raises(ExpungeError) as caught:
        execute(model, split, FineTune(epochs=0, lr=-1, density=2, clip=0), task)
    assert len(caught.value.problems) == 4
    with pytest.raises(ExpungeError) as caught:
        compute = Compute(accumulate=0, eval_batch=-1, amp="fp16")
        execute(model, split, FineTune(epochs=0), task, compute=compute)
    assert [p.split()[0] for p in caught.value.problems] == [
        "epochs",
        "accumulate",
        "eval_batch",
        "amp",
    ]
    assert "'fp16'" in caught.value.problems[-1]
    with pytest.raises(ExpungeError) as caught:
        execute(model, split, FineTune(lr=-1), task, seed=-1, compute=Compute(accumulate=0))
    assert [p.split(" is ")[0] for p in caught.value.problems] == ["the seed", "lr", "accumulate"]


@pytest.mark.parametrize(
    ("method", "said"),
    [
        (FineTune(epochs=1.5), "epochs is 1.5; it must be a whole number"),
        (FineTune(lr="0.1"), "lr is '0.1'; it must be a finite number"),
        (FineTune(clip=float("inf")), "clip is inf; it must be a finite number or None"),
        (DAMP(strength=float("nan")), "strength is nan; it must be a finite number"),
        (SSD(samples=True), "samples is True; it must be a whole number"),
        (UGradSL(gate=1), "gate is 1; it must be True or False"),
        (FineTune(optimizer="rmsprop"), "optimizer is 'rmsprop'; it must be one of"),
    ],
)
def test_settings_of_the_wrong_kind_are_refused(setting, method, said):
    model, split, task = setting
    with pytest.raises(ExpungeError, match=said):
        execute(model, split, method, task)
    with pytest.raises(ExpungeError, match=r"amp is 'bfloat16'.*'bf16'"):
        execute(model, split, FineTune(), task, compute=Compute(amp="bfloat16"))


def test_a_method_without_a_loop_that_ends_in_infinity_returns_the_original(setting):
    model, split, task = setting
    with pytest.warns(RuntimeWarning, match="FisherForgetting diverged"):
        run = execute(model, split, FisherForgetting(alpha=1e80, samples=10), task)
    assert run.ended == "diverged"
    assert run.taken_back
    assert same(run.model, model)


def test_sisa_reports_what_a_shard_could_not_learn(setting):
    model, split, task = setting
    with pytest.warns(RuntimeWarning, match="diverged"):
        run = execute(model, split, SISA(shards=2, slices=1, epochs=1, lr=1e30, batch_size=16), task)
    assert run.ended == "diverged"
    assert run.status.startswith("shard 0, slice 0: diverged")


def test_a_mask_of_attention_among_the_buffers_is_no_divergence():
    model = nn.Linear(2, 2)
    model.register_buffer("causal", torch.tensor([0.0, -torch.inf]))
    assert is_finite(model)
    model.causal[0] = torch.nan
    assert not is_finite(model)


def test_wrong_models_are_refused_with_every_reason(setting):
    _, split, task = setting
    with pytest.raises(ModelError, match="fails on a batch"):
        execute(nn.Linear(3, 5), split, FineTune(), task)
    with pytest.raises(ModelError, match=r"expected \(2, 5\)"):
        execute(nn.Linear(8, 4), split, FineTune(), task)
    broken = nn.Linear(8, 5).requires_grad_(False)
    broken.weight[0, 0] = torch.nan
    with pytest.raises(ModelError) as caught:
        execute(broken, split, FineTune(), Classification(3))
    assert len(caught.value.problems) >= 3


def test_batch_norm_freeze_keeps_statistics(setting):
    model, split, task = setting
    run = execute(model, split, FineTune(epochs=1, lr=0.1, batch_norm="freeze"), task)
    assert torch.equal(run.model[1].running_mean, model[1].running_mean)
    run = execute(model, split, FineTune(epochs=1, lr=0.1), task)
    assert not torch.equal(run.model[1].running_mean, model[1].running_mean)


# ---- going on from a state


def interrupted(after):
    """A row's watcher that stands for a killed process."""
    rows = []

    def on_row(row):
        rows.append(row)
        if len(rows) > after:
            raise KeyboardInterrupt

    return on_row


def test_a_state_of_another_model_is_refused(setting, tmp_path):
    model, split, task = setting
    file = tmp_path / "state"
    unlearn(model, split, FineTune(epochs=2), task, state_file=file)
    other = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 5))
    with pytest.raises(ExpungeError, match="another run"):
        unlearn(other, split, FineTune(epochs=2), task, state_file=file)


def test_seconds_before_an_interruption_count(setting, tmp_path):
    model, split, task = setting
    options = {"state_file": tmp_path / "state", "seed": 1}
    with pytest.raises(KeyboardInterrupt):
        execute(model, split, FineTune(epochs=4), task, on_row=interrupted(3), **options)
    kept = torch.load(tmp_path / "state", weights_only=True)["seconds"]
    run = execute(model, split, FineTune(epochs=4), task, **options)
    assert kept > 0 and run.seconds > kept
    assert same(run.model, execute(model, split, FineTune(epochs=4), task, seed=1).model)


# ---- edges


def test_words_that_are_not_choices_are_refused(setting):
    model, split, task = setting
    with pytest.raises(ExpungeError) as caught:
        unlearn(model, split, SalUn(optimizer="lion", mask="rand", batch_norm="frozen", relabel="nxt"), task)
    assert len(caught.value.problems) == 4 and "'sgd'" in str(caught.value)


def test_the_mask_is_taken_on_no_more_samples_at_once_than_a_step_has(setting):
    model, split, _ = setting
    seen = []

    class Watching(Classification):
        def loss(self, model, batch):
            seen.append(len(batch))
            return super().loss(model, batch)

    unlearn(model, split, SalUn(epochs=1, batch_size=8), Watching(5), compute=Compute(accumulate=4))
    assert max(seen) == 2
    masks = [execute(model, split, SalUn(epochs=1, batch_size=n), Classification(5)).mask for n in (8, 100)]
    assert all(torch.equal(masks[0][n], masks[1][n]) for n in masks[0])


def test_a_frozen_trunk_is_the_same_in_the_retrained_model(setting):
    model, split, task = setting
    model[0].requires_grad_(False)
    model[1].requires_grad_(False)
    try:
        gold = unlearn(model, split, Retrain(epochs=1), task)
    finally:
        model.requires_grad_(True)
    assert torch.equal(gold[0].weight, model[0].weight) and torch.equal(gold[1].weight, model[1].weight)
    assert not torch.equal(gold[3].weight, model[3].weight)


def test_missing_unseen_samples_cause_a_warning():
    y = torch.arange(60) % 3
    x = torch.randn(60, 4)
    split = Split.random((x[:40], y[:40]), (x[40:], y[40:]), 0.2, validation=0)
    model, task = nn.Linear(4, 3), Classification(3)
    with pytest.warns(RuntimeWarning, match="gate and the stop rule are off"):
        run = execute(model, split, UGradSL(epochs=1), task)
    assert "stop_target" not in run.memo and run.memo["gate"] < 0
    with pytest.raises(ExpungeError, match="--validation-from test"):
        tune(model, split, FineTune(), task)
    with pytest.raises(ExpungeError, match="retrained"):
        tune(model, split, FineTune(), task, by="gap")
    of_class = Split.by_class((x[:40], y[:40]), (x[40:], y[40:]), forget=1, validation=0)
    run = execute(model, of_class, NHLE(epochs=1, trainable="all"), task)
    assert "max_drop was measured on retained training samples" in run.notes[0]


@dataclass(frozen=True, kw_only=True)
class Dip(FineTune):
    """Ascends on the retain set in the epochs from `down` on, and descends from `up` on."""

    down: int = 0
    up: int = 1

    def loss(self, run, forget, retain):
        sign = -1 if self.down <= run.epoch < self.up else 1
        return sign * super().loss(run, forget, retain)


def test_a_repaired_drop_does_not_end_a_run(setting):
    model, split, task = setting
    good = unlearn(model, split, FineTune(epochs=5, lr=0.1, batch_size=16), task)
    method = Dip(up=4, epochs=12, lr=0.1, momentum=0.0, batch_size=16, clip=1.0, max_drop=10)
    run = execute(good, split, method, task)
    retain = [row["retain"] for row in run.history]
    assert retain[0] - min(retain) > 10, "it did fall"
    assert run.ended == "finished" and run.epoch == 12 and retain[0] - retain[-1] <= 10


def test_a_lasting_drop_rolls_back_to_the_last_good_state(setting):
    model, split, task = setting
    good = unlearn(model, split, FineTune(epochs=5, lr=0.1, batch_size=16), task)
    method = Dip(down=2, up=9, epochs=9, lr=0.1, batch_size=16, clip=1.0, max_drop=10)
    with pytest.warns(RuntimeWarning, match="max_drop"):
        run = execute(good, split, method, task)
    assert run.ended == "stopped" and run.taken_back
    assert task.predict(run.model, split.retain).accuracy > run.history[0]["retain"] - 15


def test_evaluations_do_not_change_the_random_transforms_of_training(setting):
    """Read in this process: a user's transform draws from torch's own state."""

    class Noisy(torch.utils.data.Dataset):
        def __init__(self, samples):
            self.x, self.targets = samples.data.x, samples.data.labels

        def __len__(self):
            return len(self.x)

        def __getitem__(self, k):
            return self.x[k] + torch.randn(8), self.targets[k]

    model, split, task = setting
    data = [StreamData(Noisy(s)) for s in (split.train, split.test)]
    noisy = Split.random(*data, 0.2)
    once, often = (
        execute(model, noisy, FineTune(epochs=2, batch_size=64, probe_every=k), task).model for k in (0, 1)
    )
    assert same(once, often)


@pytest.mark.parametrize("method", [IEU(epochs=1, batch_size=64), SalUnSoft(epochs=1, batch_size=64)])
def test_frozen_zeros_keep_their_sign(setting, method):
    model, split, task = setting
    model = copy.deepcopy(model)
    with torch.no_grad():
        model[0].weight[0] = -0.0
    mask = random_mask(model, 0.5)
    run = execute(model, split, method, task, mask=mask)
    assert (
        run.model[0].weight[~mask["0.weight"]].signbit().equal(model[0].weight[~mask["0.weight"]].signbit())
    )


def test_a_mask_that_frees_frozen_weights_alone_is_refused_and_a_dict_becomes_one(setting):
    model, split, task = setting
    model = copy.deepcopy(model)
    model[0].requires_grad_(False)
    free = {n: torch.full_like(p, n.startswith("0."), dtype=torch.bool) for n, p in model.named_parameters()}
    with pytest.raises(MaskError, match="frozen"):
        execute(model, split, FineTune(epochs=1), task, mask=free)
    run = execute(model, split, FineTune(epochs=1), task, mask={n: ~m for n, m in free.items()})
    assert record_of("unlearn", run, FineTune()).details["mask"]["density"] < 1


def test_a_classifier_of_one_class_is_refused():
    x, y = torch.randn(40, 4), torch.zeros(40, dtype=torch.int64)
    split = Split.random((x[:30], y[:30]), (x[30:], y[30:]), 0.2)
    with pytest.raises(ModelError, match="needs at least 2"):
        execute(nn.Linear(4, 1), split, SalUn(), Classification(1))


def test_batch_norm_with_single_samples_warns_once(setting):
    model, split, task = setting
    with pytest.warns(RuntimeWarning, match="cut into 8 pieces") as told:
        execute(model, split, FineTune(epochs=2, batch_size=8), task, compute=Compute(accumulate=8))
    assert len([w for w in told if "pieces" in str(w.message)]) == 1


def test_a_small_forget_side_does_not_prevent_accumulation(setting):
    _, split, _ = setting
    f, r = next(split.forget.batches(2)), next(split.retain.batches(40))
    value = torch.linspace(0, 1, 250)
    mean = lambda b: value[b.index].mean()  # noqa: E731
    cut = list(pieces((f, r), 8))
    assert [len(b) for (_, b), _ in cut] == [5] * 8
    assert float(sum(s * (mean(a) + mean(b)) for (a, b), s in cut)) == pytest.approx(float(mean(f) + mean(r)))
    union = list(pieces((f, r), 8, union=True))
    assert len(union) == 8 and sum(a is not None for (a, _), _ in union) == 2
    whole = torch.cat([value[b.index] for b in (f, r)]).mean()
    parts = sum(s * torch.cat([value[b.index] for b in p if b is not None]).mean() for p, s in union)
    assert float(parts) == pytest.approx(float(whole))


def test_a_model_evaluated_on_another_split_is_refused_as_reference(setting):
    model, split, task = setting
    other = Split.random(split.forget.data, split.test.data, 0.1)
    with pytest.raises(ExpungeError, match="another split"):
        experiment(model, split, FineTune(epochs=1), task, retrained=evaluate(model, other, task))
    with pytest.raises(ExpungeError, match="another split"):
        tune(model, split, FineTune(epochs=1), task, by="gap", retrained=evaluate(model, other, task))


def test_trials_by_the_gap_continue_after_a_nan_distance(setting, monkeypatch):
    model, split, task = setting
    gold = evaluate(model, split, task)
    broken = copy.deepcopy(model)
    with torch.no_grad():
        broken[3].bias[0] = torch.nan
    assert distance_to_retrained(gold, task)(broken) == 100 > distance_to_retrained(gold, task)(model)
