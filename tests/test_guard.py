"""The guard of a run: what becomes NaN inside an epoch, or collapses, is taken back and named."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from expunge import GradientMethod, execute
from expunge.torch_utils.module_state import same_parameters
from expunge.training import guard
from small_problem import vectors


@dataclass(frozen=True)
class _Breaks(GradientMethod):
    """Ascent whose loss is NaN at a step."""

    schedule = "forget"
    data = ("forget",)
    loss_at: int = 0

    def loss(self, run, forget, retain):
        value = -run.task.loss(run.model, forget).mean()
        return value * float("nan") if run.step + 1 == self.loss_at else value


def run(**settings):
    problem = vectors()
    method = _Breaks(batch_size=1, lr=1e-4, max_drop=100.0, **settings)
    return problem, execute(problem.model, problem.split, method, problem.task)


def test_a_loss_that_becomes_nan_inside_an_epoch_ends_it(monkeypatch):
    monkeypatch.setattr(guard, "NAN_EVERY", 4)
    problem, broken = run(epochs=1, loss_at=6)
    assert broken.ended == "diverged" and broken.taken_back and broken.step == 8, (
        "looked at every fourth step"
    )
    assert broken.status.startswith(
        "diverged at step 8: the loss became NaN or infinite; the last good state (step 0)"
    )
    assert same_parameters(broken.model, problem.model)


def test_the_last_good_state_is_that_of_the_epoch_before(monkeypatch):
    monkeypatch.setattr(guard, "NAN_EVERY", 4)
    problem, whole = run(epochs=1)
    steps = len(problem.split.forget)
    assert whole.ended == "finished" and not same_parameters(whole.model, problem.model)
    _, broken = run(epochs=2, loss_at=steps + 2)
    assert broken.ended == "stopped" and broken.taken_back
    assert f"the last good state (step {steps}) was kept" in broken.status
    literal = run(epochs=2)[1]
    assert not same_parameters(broken.model, literal.model) and not same_parameters(
        broken.model, problem.model
    )


@dataclass(frozen=True)
class _Falls(GradientMethod):
    """Replace the head by one that names the forgotten class alone at one epoch, and put the old one back at another."""

    schedule = "retain"
    data = ("forget", "retain")
    falls: int = 1
    recovers: int = 0
    of_forget: bool = False

    def plan(self):
        return "forget" if self.of_forget else self.schedule

    def loss(self, run, forget, retain):
        head = run.model[2]
        with torch.no_grad():
            if run.epoch + 1 == self.recovers:
                head.bias.copy_(run.original[2].bias)
            elif run.epoch + 1 == self.falls:
                head.bias.copy_(torch.tensor([0, 1e3, 0, 0]))
        samples = forget if self.of_forget else retain
        return 0 * run.task.loss(run.model, samples).mean()


def falling(**settings):
    problem = vectors()
    method = _Falls(batch_size=64, lr=1e-9, max_drop=5.0, **settings)
    return problem, execute(problem.model, problem.split, method, problem.task)


def test_a_method_that_trains_on_retained_samples_may_fall_and_recover():
    _, recovered = falling(epochs=3, falls=1, recovers=2)
    assert recovered.ended == "finished" and not recovered.taken_back and recovered.step == 3
    values = [row["retain"] for row in recovered.history]
    assert values[1] < values[0] - 5, "it fell after the first epoch"
    assert values[3] == values[0]


def test_a_method_that_has_not_recovered_at_its_end_is_taken_back():
    _, fallen = falling(epochs=3, falls=2)
    assert fallen.taken_back and fallen.step == 3, "only looked at after the last step"
    assert (fallen.ended, fallen.status.split(":")[0]) == ("stopped", "stopped at step 3")
    assert "the last good state (step 1) was kept" in fallen.status
    assert fallen.model[2].bias.max() < 100


def test_a_plan_without_retained_samples_ends_at_its_first_fall():
    _, fallen = falling(epochs=3, falls=1, recovers=2, of_forget=True)
    assert fallen.taken_back and (fallen.ended, fallen.step) == ("diverged", 1)
