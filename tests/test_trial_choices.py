"""Trials with fixed settings, with an optimizer that is not the method's own, and with no gain."""

from dataclasses import replace

import pytest
import torch

from expunge import Classification, Split
from expunge.cli.table_notes import no_gain, table_notes
from expunge.cli.trial_lines import note_no_gain, print_chosen
from expunge.methods.bad_teacher import BadTeacher
from expunge.methods.finetune import FineTune
from expunge.methods.random_label import RandomLabel
from expunge.methods.retrain import Retrain
from expunge.methods.salun import SalUn
from expunge.methods.ssd import SSD
from expunge.models import build
from expunge.pipeline.experiment import experiment, train
from expunge.sources.loading import load
from expunge.tuning.auto import adapt, all_fixed
from expunge.tuning.search import rate_factor, search_space
from expunge.tuning.trials import choose

TASK = Classification(10)


@pytest.fixture(scope="module")
def setting():
    """An MLP on 600 digits, and its split for a random tenth."""
    torch.manual_seed(0)
    source = load("digits?limit=600")
    split = Split.random(source.train, source.test, 0.1)
    fresh = build("mlp", num_classes=10, shape=source.shape)
    return train(fresh, split, Retrain(epochs=8, lr=0.1, batch_size=64), TASK).model, split


# ---- all searched settings are fixed


def test_a_run_of_fixed_settings_is_compared_with_the_original(setting):
    model, split = setting
    method = RandomLabel(lr=0.5, epochs=2, max_drop=100)
    # the harm of a hundred times the usual rate
    with pytest.warns(RuntimeWarning, match="is fixed, so no settings were tried; the run is compared"):
        found, run, details = choose(model, split, method, TASK, count="auto", fixed=["lr"])
    assert run.ended == "unchanged" and run.kept_original and found.lr == 0.5
    assert [t["settings"] for t in details["trials"]] == [{}] and details["trials_untouched"] < details[
        "trials"
    ][0]["distance"]
    assert details["notes"][0] == all_fixed(method, split, TASK, ["lr"])
    # a project does not keep the original: a run at chance after its first epoch ends there
    with pytest.warns(RuntimeWarning, match="the trial collapsed"):
        _, run, _ = choose(model, split, method, TASK, count="auto", fixed=["lr"], may_keep=False)
    assert run.ended == "diverged"
    # it runs other settings to their end, and says how they compare
    method = RandomLabel(lr=0.1, epochs=2, max_drop=100)
    with pytest.warns(RuntimeWarning, match="was not clearly better than the model before the run"):
        found, run, details = choose(model, split, method, TASK, count="auto", fixed=["lr"], may_keep=False)
    assert run.ended == "finished" and len(details["trials"]) == 1


def test_only_a_search_whose_settings_are_all_fixed_is_one_trial(setting):
    _, split = setting
    assert "(lr) is fixed" in all_fixed(FineTune(), split, TASK, ["lr", "epochs"])
    assert all_fixed(FineTune(), split, TASK, ["epochs"]) == ""
    assert "(alpha, dampening) is fixed" in all_fixed(SSD(), split, TASK, ["alpha", "dampening"])
    # nothing to search, and nothing to compare with
    assert all_fixed(Retrain(), split, TASK, ["lr"]) == ""
    without = replace(split, validation=split.validation.take(slice(0)), held_out=split.held_out[:0])
    assert all_fixed(FineTune(), without, TASK, ["lr"]) == ""


# ---- learning rates of another optimizer


def test_a_learning_rate_is_that_of_the_optimizer(setting):
    model, split = setting
    assert [rate_factor(SalUn(optimizer=name)) for name in ("sgd", "adam", "adamw")] == [1, 0.01, 0.01]
    assert [rate_factor(BadTeacher(optimizer=name)) for name in ("sgd", "adam", "adamw")] == [100, 1, 1]
    assert rate_factor(SSD()) == 1
    usual, adam = search_space(SalUn()), search_space(SalUn(optimizer="adamw", lr=1e-4))
    assert {float(f"{v / 100:.3g}") for v in usual["lr"] if v in SalUn.search["lr"]} <= set(adam["lr"])
    assert 1e-4 in adam["lr"] and max(adam["lr"]) <= max(usual["lr"]) / 100
    assert adapt(SalUn(lr=0.02, optimizer="adamw"), model, split, TASK).lr == 2e-4
    assert adapt(SalUn(lr=0.02), model, split, TASK).lr == 0.02
    assert adapt(SalUn(lr=0.02, optimizer="adamw"), model, split, TASK, fixed=["lr"]).lr == 0.02


# ---- no gain


def test_a_model_that_trials_found_no_better_says_so(setting, capsys):
    model, split = setting
    harm = RandomLabel(lr=0.3, epochs=2, max_drop=100)
    outcome = experiment(model, split, harm, TASK, trials=2, fixed=["density"])
    record = outcome.record
    trials = [{**t, "distance": 30.0 + k} for k, t in enumerate(record.details["trials"])]

    def with_untouched(distance):
        return replace(record, details={**record.details, "trials": trials, "trials_untouched": distance})

    assert no_gain(with_untouched(31.0)) == ""
    bad = with_untouched(5.0)
    assert (
        no_gain(bad)
        == "The original's was 5.00 points: by its own estimate, this model is no better than the original."
    )
    assert (
        no_gain(with_untouched(5.0)) in table_notes([bad])[0]
        and "The original's" not in table_notes([with_untouched(31.0)])[0]
    )
    note_no_gain(with_untouched(31.0))
    assert capsys.readouterr().err == ""
    note_no_gain(bad)
    assert (
        "the trials estimate that the written model is no better than the original" in capsys.readouterr().err
    )
    print_chosen(replace(outcome, record=bad), 2)
    assert "the best of 2 trials, none better than the original: " in capsys.readouterr().out
    print_chosen(replace(outcome, record=with_untouched(31.0)), 2)
    assert "none better" not in capsys.readouterr().out
    assert no_gain(replace(bad, details={})) == ""
