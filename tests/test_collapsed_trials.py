"""A trial at chance after its first epoch ends there; a run with settings of the user's own goes on."""

import pytest
import torch

from expunge import Classification, Split, execute
from expunge.methods.random_label import RandomLabel
from expunge.methods.retrain import Retrain
from expunge.methods.scissorhands import Scissorhands
from expunge.models import build
from expunge.pipeline.experiment import train
from expunge.sources.loading import load
from expunge.training.chance import at_chance
from expunge.training.execute import execute_trial
from expunge.tuning.estimate import LARGEST_DISTANCE
from expunge.tuning.trials import tune

TASK = Classification(10)


@pytest.fixture(scope="module")
def setting():
    torch.manual_seed(0)
    source = load("digits?limit=600")
    split = Split.random(source.train, source.test, 0.1)
    model = build("mlp", num_classes=10, shape=source.shape)
    return train(model, split, Retrain(epochs=15, lr=0.1, batch_size=64), TASK).model, split


def test_a_collapsed_trial_ends_after_its_first_epoch(setting):
    model, split = setting
    # without momentum and clipping, this rate throws the network to one class
    wild = RandomLabel(lr=30.0, epochs=4, max_drop=100)
    trial, alone = (run(model, split, wild, TASK) for run in (execute_trial, execute))
    assert (
        trial.epoch == 1
        and trial.ended == "diverged"
        and "the trial collapsed: after epoch 1" in trial.status
    )
    assert "as by chance (" in trial.status and "Lower lr (now 30)" in trial.status
    # the control: the user's own run may repair it, and a sound trial goes on
    assert alone.epoch == 4 and "collapsed" not in alone.status
    assert execute_trial(model, split, RandomLabel(lr=0.01, epochs=2), TASK).epoch == 2


@pytest.mark.filterwarnings("ignore")
def test_the_search_reports_collapsed_trials(setting):
    model, split = setting
    tuned = tune(model, split, RandomLabel(lr=30.0, epochs=3, max_drop=100), TASK, count=2)
    first = tuned.in_order[0]
    assert first.distance == LARGEST_DISTANCE and "collapsed" in first.status
    note = "1 of 2 trials collapsed and ended early: after the first epoch, accuracy on retained samples was as by chance."
    assert list(tuned.notes)[-1] == note and tuned.trials[0] is not first


def test_chance_is_the_share_of_the_most_frequent_class():
    """Worked by hand: 60 of 200 samples have the largest class, so chance is 30 %, with a standard error of 3.24 points."""
    labels = torch.tensor([0] * 60 + [1] * 40 + [2] * 50 + [3] * 50)

    def judged(now, before=90.0, epoch=1, method=None):
        return bool(at_chance(epoch, method or RandomLabel(), labels, {"retain": before}, {"retain": now}))

    # 30 + 1.645 * 3.24 = 35.33
    assert judged(35.3) and not judged(35.4)
    # a model that was at 30 + 2 * 1.645 * 3.24 = 40.66 or less had not learned enough to judge it
    assert judged(30.0, before=40.7) and not judged(30.0, before=40.6)
    assert not judged(10.0, method=Scissorhands())
    assert not judged(10.0, epoch=2)
