"""The guard of a run: what becomes NaN inside an epoch is taken back and named."""

from __future__ import annotations

from dataclasses import dataclass

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
