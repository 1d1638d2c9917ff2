"""`trials="auto"`: settings that fit the request, the original as a candidate, and runs that did harm."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import pytest
import torch

from expunge import Classification, ExpungeError, Split, UnlearningFailed, execute, unlearn
from expunge.audit.evaluation import evaluate
from expunge.cli import main
from expunge.data.past_requests import requests_of
from expunge.methods.bias_shift import BiasShift
from expunge.methods.finetune import FineTune
from expunge.methods.gradient_ascent import GradientAscent
from expunge.methods.random_label import RandomLabel
from expunge.methods.retrain import Retrain
from expunge.methods.salun import SalUn
from expunge.methods.ssd import SSD
from expunge.methods.ugradsl import UGradSL
from expunge.models import build
from expunge.pipeline.experiment import experiment, train
from expunge.records.checkpoint import read_checkpoint
from expunge.records.hashing import state_hash
from expunge.records.record import Record
from expunge.sources.loading import load
from expunge.torch_utils.module_state import same_parameters
from expunge.training.execute import keep_original
from expunge.training.method import Method
from expunge.tuning.auto import MOST, AutoSearch, adapt, can_search, search_for
from expunge.tuning.caution import cautious_distance, excess_distance, worse_text
from expunge.tuning.estimate import predict_sets
from expunge.tuning.search import Trial, count_for, tries
from expunge.tuning.trials import tune
from expunge.tuning.tuned import Tuned, no_better_text
from small_problem import vectors

TASK = Classification(10)


@pytest.fixture(scope="module")
def setting():
    """An MLP on 600 digits, its split for class 3, and its split for a random tenth."""
    torch.manual_seed(0)
    source = load("digits?limit=600")
    by_class = Split.by_class(source.train, source.test, 3)
    random = Split.random(source.train, source.test, 0.1)
    models = [
        train(
            build("mlp", num_classes=10, shape=source.shape),
            s,
            Retrain(epochs=15, lr=0.1, batch_size=64),
            TASK,
        ).model
        for s in (by_class, random)
    ]
    return models[0], by_class, models[1], random


# ---- settings that fit the request


def test_a_small_request_gets_a_hundred_steps(setting):
    model, split, *_ = setting
    assert len(split.forget) <= 256 and adapt(GradientAscent(), model, split, TASK).epochs == 100
    retained = -(-len(split.retain) // 256)
    assert adapt(FineTune(), model, split, TASK).epochs == -(-100 // retained)
    # what already has so many steps, and what the user set, stays
    assert adapt(FineTune(epochs=200), model, split, TASK).epochs == 200
    assert adapt(FineTune(epochs=3), model, split, TASK, fixed=["epochs"]).epochs == 3
    assert adapt(Retrain(epochs=2), model, split, TASK) == Retrain(epochs=2)


def test_alpha_of_ssd_starts_at_half_of_what_a_request_can_reach(setting):
    model, split, *_ = setting
    n = len(split.forget) + len(split.retain)
    assert adapt(SSD(), model, split, TASK).alpha == pytest.approx(n / (2 * len(split.forget)), rel=0.01)
    assert adapt(SSD(alpha=1.5), model, split, TASK).alpha == 1.5
    assert adapt(SSD(), model, split, TASK, fixed=["alpha"]).alpha == 10


def test_a_name_gets_settings_and_an_instance_keeps_its_own():
    assert count_for("salun", "auto") == count_for(SalUn, "auto") == "auto"
    assert count_for(SalUn(), "auto") is None and count_for(SalUn(), 4) == 4
    assert count_for("retrain", "auto", "retrain") is None
    assert [tries(c) for c in (None, 0, 1, 2, "auto")] == [False, False, False, True, True]


# ---- the search


def walk(search: AutoSearch, distance):
    done: list[Trial] = []
    while (settings := search.next(done)) is not None:
        done.append(Trial(settings, distance(settings), "finished"))
    return done


def test_the_search_walks_by_two_then_by_one():
    values = [1, 2, 3, 4, 5, 6, 7, 8, 9]
    search = AutoSearch({"a": 3}, {"a": values}, upward=True)
    assert [t.settings["a"] for t in walk(search, lambda s: 10 * abs(s["a"] - 5.9) + 2)] == [3, 5, 7, 6]
    assert [t.settings["a"] for t in walk(search, lambda s: 10 * abs(s["a"] - 5))] == [3, 5]  # good enough
    # nothing is forgotten up to 6: equal distances mean that the next trial must be stronger
    assert [t.settings["a"] for t in walk(search, lambda s: 50.0 if s["a"] < 7 else 0.0)] == [3, 5, 7]
    down = replace(search, own={"a": 7}, upward=False)
    assert [t.settings["a"] for t in walk(down, lambda s: 10.0 * s["a"])][:4] == [7, 5, 3, 1]
    assert len(walk(AutoSearch({"a": 1}, {"a": list(range(100))}, upward=True), lambda s: 50.0)) == MOST


def test_other_fields_follow_one_at_a_time():
    search = AutoSearch({"a": 2, "b": 1}, {"a": [1, 2, 3], "b": [0, 1, 2]}, upward=True)
    done = walk(search, lambda s: 10 * abs(s["a"] - 3) + 20 * abs(s["b"] - 2) + 2)
    assert [tuple(t.settings.values()) for t in done][:3] == [(2, 1), (3, 1), (3, 2)]
    assert all(len([k for k in s if s[k] != search.own[k]]) <= 2 for s in (t.settings for t in done))


def test_learning_rates_go_beyond_the_methods_list_but_not_above_one(setting):
    model, split, *_ = setting
    space = search_for(GradientAscent(), model, split, TASK, (), 0.0).space
    assert list(space) == ["lr", "epochs"] and 1e-4 in space["lr"] and max(space["lr"]) <= 1
    assert max(space["lr"]) > max(GradientAscent.search["lr"]) and space["lr"] == sorted(space["lr"])
    assert "lr" not in search_for(UGradSL(), model, split, TASK, ("lr",), 0.0).space
    assert "epochs" not in search_for(UGradSL(), model, split, TASK, ("epochs",), 0.0).space


# ---- the estimate


def test_excess_distance_by_hand():
    ones = torch.ones(100)
    low, high = torch.linspace(0, 0.4, 100), torch.linspace(0.6, 1, 100)
    # fully apart: 1 minus the critical value 1.358 * sqrt(200 / 10000)
    assert excess_distance(low, high, ones) == pytest.approx(1 - 1.358 * (200 / 10_000) ** 0.5)
    assert excess_distance(low, low, ones) == 0
    # half of the weight lies where the others are: the distance is 0.5
    mixed = torch.cat([low, high])
    assert excess_distance(low, mixed, torch.ones(200)) == pytest.approx(
        0.5 - 1.358 * (300 / 20_000) ** 0.5, abs=0.011
    )
    # weights of 0 take samples away
    only_low = torch.cat([torch.ones(100), torch.zeros(100)])
    assert excess_distance(low, mixed, only_low) == 0


def test_the_original_is_far_for_a_class_and_within_the_error_for_few_samples(setting):
    model, split, other, random = setting
    distance, margin = cautious_distance(predict_sets(model, split, TASK), split, TASK)
    assert margin == 0 and distance(model) > 45
    # confidences alone do not make a recognised class forgotten
    sharper = copy.deepcopy(model)
    with torch.no_grad():
        list(sharper.parameters())[-2].mul_(1.5)
    assert distance(sharper) > 45
    distance, margin = cautious_distance(predict_sets(other, random, TASK), random, TASK)
    assert distance(other) <= margin < 5


def test_trials_never_look_at_test_samples(setting):
    model, split, other, random = setting
    for original, request in ((model, split), (other, random)):
        wrong = replace(request, test=request.retain, test_forgotten=request.retain)
        first, second = (
            tune(original, s, RandomLabel(epochs=2), TASK, count="auto", fixed=["epochs"])
            for s in (request, wrong)
        )
        assert [(t.settings, t.distance) for t in first.trials] == [
            (t.settings, t.distance) for t in second.trials
        ]


# ---- the untouched original is a candidate


def test_a_method_that_does_nothing_is_reported_as_such(setting):
    """Negative control: a step too small to move an accuracy must not pass as forgetting."""
    model, split, *_ = setting
    with pytest.warns(RuntimeWarning, match=r"improved? on the original"):
        outcome = experiment(model, split, Nothing, TASK)
    assert outcome.record.ended == "unchanged" and "trial" in outcome.record.status
    assert outcome.record.model["hash_before"] == outcome.record.model["hash_after"]
    assert state_hash(outcome.model.state_dict()) == state_hash(model.state_dict())
    assert outcome.model is not model and len(requests_of(model)) == 0


def test_trials_that_gain_nothing_name_what_is_delivered():
    """A project cannot keep the model before the run, so its text names the settings that it takes."""
    trials = [Trial({"lr": 0.1, "epochs": 5}, 2.0, "finished"), Trial({}, 2.25, "finished")]
    one, two = (Tuned(trials[:n], SSD(), 2.1, None, 0.5, trials[:n]) for n in (1, 2))
    assert no_better_text(one).startswith("The only trial of ssd did not improve on the original model")
    assert "None of the 2 trials of ssd improved on the original" in no_better_text(two)
    text = no_better_text(two, two.harmless)
    assert text.startswith(
        "None of the 2 trials of ssd was clearly better than the model before the run (est"
    )
    assert text.endswith("The run takes lr=0.1, epochs=5 (estimated gap 2.00).") and "trials=0" not in text
    assert no_better_text(one, trials[1]).endswith("takes the settings of the method (estimated gap 2.25).")


class Nothing(BiasShift):
    """Shift a bias by nothing that matters."""

    def apply(self, run):
        with torch.no_grad():
            next(run.model.parameters())[0, 0] += 1e-6

    def details(self, run):
        raise AssertionError("the method did not run on the model that is returned")


@dataclass(frozen=True, kw_only=True)
class MaskThenDiverge(Method):
    """Never predict class 3 again. Above `lr` 1 the run then diverges, and leaves the class as well forgotten."""

    lr: float = 10.0
    search: ClassVar = {"lr": (0.1, 10.0)}

    def apply(self, run):
        with torch.no_grad():
            list(run.model.parameters())[-1][3] = -1e4 if self.lr > 1 else -1e3
        if self.lr > 1:
            run.ended, run.status = "diverged", "diverged: at step 1"


def test_a_diverged_trial_is_never_chosen(setting):
    model, split, *_ = setting
    tuned = tune(model, split, MaskThenDiverge(), TASK, count=2)
    assert [t.distance for t in tuned.trials[1:]] == [100.0] and tuned.trials[0].distance < 1
    assert tuned.method.lr < 1 and tuned.trials[0].status == "finished"


def test_a_name_alone_forgets_a_class(setting):
    model, split, *_ = setting
    for name in ("ugradsl", "ssd"):
        outcome = experiment(model, split, name, TASK)
        assert outcome.record.ended in ("finished", "stopped") and outcome.record.scores["UA"] > 90
        assert outcome.record.scores["RA"] > 90 and len(outcome.record.details["trials"]) <= MOST
    # the same without trials: too few steps, and no weight above alpha
    for name in ("ugradsl", "ssd"):
        outcome = experiment(model, split, name, TASK, trials=None)
        assert outcome.record.scores["UA"] < 50 and "trials" not in outcome.record.details


def test_unlearn_with_a_name_forgets_a_class_and_with_an_instance_runs_it(setting):
    model, split, *_ = setting
    assert 100 - TASK.predict(unlearn(model, split, "ssd", TASK), split.forget).accuracy > 90
    with pytest.warns(RuntimeWarning), pytest.raises(UnlearningFailed, match="ssd unchanged") as failed:
        unlearn(model, split, SSD(), TASK)
    assert state_hash(failed.value.run.model.state_dict()) == state_hash(model.state_dict())
    with pytest.warns(RuntimeWarning), pytest.raises(UnlearningFailed, match=r"improved? on the original"):
        unlearn(model, split, Nothing, TASK)
    with pytest.raises(ExpungeError, match="lr is"):
        unlearn(model, split, FineTune(lr=-1.0), TASK)


def test_no_name_does_harm_at_random(setting):
    *_, model, split = setting
    with pytest.warns(RuntimeWarning, match="within the sampling error"):
        outcome = experiment(model, split, "salun", TASK)
    assert outcome.record.ended == "unchanged"


def test_auto_without_validation_samples_adapts_only_or_uses_the_retain_set(setting):
    of_class, *_, random = setting
    without = lambda s: replace(s, validation=s.validation.take(slice(0)), held_out=s.held_out[:0])  # noqa: E731
    assert can_search(SSD(), without(setting[1]), TASK) and not can_search(SSD(), without(random), TASK)
    with pytest.warns(RuntimeWarning, match="no settings were tried"):
        record = experiment(setting[-2], without(random), "ssd", TASK).record
    assert 1 < record.settings["alpha"] < 10 and "trials" not in record.details
    found = tune(of_class, without(setting[1]), SSD(), TASK, count="auto")
    assert found.improved and found.trials[0].distance < 10


# ---- runs that did harm


def test_a_run_that_did_harm_says_so(setting):
    *_, model, split = setting
    outcome = experiment(
        model, split, RandomLabel(lr=0.5, epochs=3, max_drop=100), TASK, original=evaluate(model, split, TASK)
    )
    assert outcome.record.ended == outcome.run.ended == "worse"
    assert outcome.record.status.startswith("worse: the estimated gap is ")
    # the model is still the one that the run made
    assert outcome.record.model["hash_before"] != outcome.record.model["hash_after"]


def test_with_a_reference_the_gap_to_it_decides(setting):
    *_, model, split = setting
    original = evaluate(model, split, TASK)
    strong = evaluate(
        execute(model, split, RandomLabel(lr=0.5, epochs=3, max_drop=100), TASK).model, split, TASK
    )
    assert worse_text(strong, original, original, TASK).startswith("the average gap to Retrain is ")
    assert worse_text(original, strong, original, TASK) == ""
    assert worse_text(original, original, strong, TASK) == "", "the original's own row"


def test_exit_codes_of_harm_and_of_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    digits = ["--data", "digits?limit=600", "--model", "mlp"]
    assert (
        main(
            [
                "train",
                *digits,
                "--out",
                "o.safetensors",
                "--epochs",
                "15",
                "--lr",
                "0.1",
                "--batch-size",
                "64",
            ]
        )
        == 0
    )
    unlearn = ["unlearn", "random_label", *digits, "--checkpoint", "o.safetensors", "--forget-share", "0.1"]
    assert (
        main(
            [
                *unlearn,
                "--trials",
                "0",
                "--lr",
                "0.5",
                "--epochs",
                "3",
                "--max-drop",
                "100",
                "--out",
                "harm.safetensors",
            ]
        )
        == 1
    )
    assert Record.load("harm.json").ended == "worse"
    out = capsys.readouterr()
    assert "random_label (worse)" in out.out and "worse: the estimated gap" in out.err
    assert Path("harm.safetensors").exists() and Path("harm.receipt.json").exists()
    failing = [*unlearn, "--trials", "0", "--lr", "0.5", "--epochs", "3", "--out"]
    assert main([*failing, "diverged.safetensors"]) == 3
    out = capsys.readouterr()
    assert "random_label (diverged)" in out.out and "diverged.safetensors was not written" in out.err
    assert not list(tmp_path.glob("*diverged*")), "neither outputs nor a state"
    assert main([*failing, "diverged.safetensors", "--keep-failed"]) == 3
    assert Record.load("diverged.safetensors.failed.json").ended == "diverged"
    kept, original = (read_checkpoint(f) for f in ("diverged.safetensors.failed", "o.safetensors"))
    assert kept.metadata["train_hash"] == original.metadata["train_hash"] and "requests" not in kept.metadata
    assert sorted(f.name for f in tmp_path.glob("*diverged*")) == [
        "diverged.safetensors.failed",
        "diverged.safetensors.failed.json",
    ]
    assert main([*unlearn, "--epochs", "3", "--out", "none.safetensors"]) == 3
    assert "on the original model" in capsys.readouterr().err and not list(tmp_path.glob("*none*"))
    good = ["unlearn", "ssd", *digits, "--checkpoint", "o.safetensors", "--forget-class", "3"]
    assert main([*good, "--out", "good.safetensors"]) == 0
    assert Record.load("good.json").scores["UA"] > 90


def test_a_kept_original_is_a_copy_that_knows_its_source():
    model, split, task = vectors(random=True)
    run = keep_original(model, split, task, "nothing is better", seed=4)
    assert run.source is model and run.model is not model and same_parameters(run.model, model)
    assert (run.ended, run.status, run.seed) == (
        "unchanged",
        "unchanged: nothing is better",
        4,
    ) and run.kept_original
