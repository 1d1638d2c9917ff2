"""States of interrupted runs: how often they are written, and that curves go on where they were."""

from __future__ import annotations

import copy

import pytest
import torch

from expunge import ExpungeError
from expunge.errors import WriteError
from expunge.methods.finetune import FineTune
from expunge.methods.salun import SalUn
from expunge.methods.salun_soft import SalUnSoft
from expunge.methods.selective_amnesia import SelectiveAmnesia
from expunge.training import resume
from expunge.training.execute import execute


class Killed(Exception):
    pass


def killed_in(epoch):
    """A method that ends the process in the middle of an epoch."""

    class Bomb(FineTune):
        def loss(self, run, forget, retain):
            if run.epoch == epoch:
                raise Killed
            return super().loss(run, forget, retain)

    # a state knows the code that made it: the bomb stands for the built-in method in a process that is killed
    Bomb.__name__, Bomb.__module__ = "FineTune", FineTune.__module__
    return Bomb


def test_curves_of_shared_evaluations_continue_after_a_resume(generator, tmp_path):
    settings = {"epochs": 60, "lr": 1e-4, "batch_size": 400}
    go = lambda method, **more: execute(  # noqa: E731
        generator.model, generator.by_class, method, generator.task, seed=2, **more
    )
    whole = go(FineTune(**settings))
    with pytest.raises(Killed):
        go(killed_in(11)(**settings), state_file=tmp_path / "state")
    again = go(FineTune(**settings), state_file=tmp_path / "state")
    rows = [(r["step"], r["loss"], r["retain"]) for r in whole.history]
    assert rows == [(r["step"], r["loss"], r["retain"]) for r in again.history]
    assert 20 <= len(rows) <= 25 and rows[-1][0] == whole.step == 120


def test_short_runs_and_classifiers_are_evaluated_after_every_epoch(generator, classifier):
    for toy, epochs in ((generator, 12), (classifier, 30)):
        run = execute(
            toy.model, toy.by_class, FineTune(epochs=epochs, lr=1e-4, batch_size=400), toy.task, seed=2
        )
        assert [r["epoch"] for r in run.history] == list(range(epochs + 1))


def test_a_large_state_is_not_written_after_every_short_epoch(generator, tmp_path, monkeypatch):
    epochs = []

    def written(path, state):
        epochs.append(state["epoch"])

    monkeypatch.setattr(resume, "save_state", written)
    method = SalUn(epochs=6, lr=1e-4, batch_size=400, order="paired")
    go = lambda: execute(  # noqa: E731
        generator.model, generator.by_class, method, generator.task, state_file=tmp_path / "state"
    )
    go()
    assert epochs == [1, 2, 3, 4, 5, 6]
    epochs.clear()
    monkeypatch.setattr(resume, "SMALL_BYTES", 0)
    monkeypatch.setattr(resume, "REST", 10**12)
    go()
    assert epochs == [1, 6]


@pytest.mark.parametrize("name", ["classifier", "generator"])
def test_a_run_that_ends_in_the_evaluation_of_an_epoch_keeps_the_epoch(name, request, tmp_path):
    """As a grid does whose time is over: each call goes one epoch on, and ends where one call would."""
    toy, method, state = request.getfixturevalue(name), SalUn(epochs=3, lr=1e-3, density=0.3), tmp_path / "s"
    whole = execute(toy.model, toy.by_class, method, toy.task)
    seen = []

    def until(row):
        seen.append(row["epoch"])
        if len(seen) == 2:
            raise Killed

    for _ in range(2):
        seen.clear()
        with pytest.raises(Killed):
            execute(toy.model, toy.by_class, method, toy.task, state_file=state, on_row=until)
    again = execute(toy.model, toy.by_class, method, toy.task, state_file=state)
    keys = ("step", "epoch", "loss", "retain", "forget")
    assert [[r[k] for k in keys] for r in again.history] == [[r[k] for k in keys] for r in whole.history]
    assert all(
        torch.equal(a, b) for a, b in zip(again.model.parameters(), whole.model.parameters(), strict=True)
    )
    assert again.mask.metadata == whole.mask.metadata == {"density": "0.3"}


def test_a_state_of_other_trainable_parameters_is_refused(classifier, tmp_path):
    model, split, task = classifier.model, classifier.by_class, classifier.task
    with pytest.raises(Killed):
        execute(model, split, killed_in(1)(epochs=2), task, state_file=tmp_path / "s")
    fewer = copy.deepcopy(model)
    fewer[0].requires_grad_(False)
    with pytest.raises(ExpungeError, match="trained other weights"):
        execute(fewer, split, FineTune(epochs=2), task, state_file=tmp_path / "s")


def test_a_full_disk_does_not_end_the_run(classifier, tmp_path, monkeypatch):
    def full(path, state):
        raise WriteError("No space left on device")

    monkeypatch.setattr(resume, "save_state", full)
    with pytest.warns(RuntimeWarning, match="No space left.*goes on without") as told:
        run = execute(
            classifier.model,
            classifier.by_class,
            FineTune(epochs=3),
            classifier.task,
            state_file=tmp_path / "s",
        )
    assert run.ended == "finished" and len([w for w in told if "goes on" in str(w.message)]) == 1


def test_a_resumed_run_does_not_sample_its_replay_images_again(generator, tmp_path, monkeypatch):
    method = SelectiveAmnesia(epochs=2, pool=8, fisher_samples=2, sample_steps=2)
    go = lambda **more: execute(generator.model, generator.by_class, method, generator.task, **more)  # noqa: E731
    whole = go()

    def end(row):
        if row["epoch"] == 1:
            raise Killed

    with pytest.raises(Killed):
        go(state_file=tmp_path / "s", on_row=end)
    monkeypatch.setattr(SelectiveAmnesia, "_pool", None)
    again = go(state_file=tmp_path / "s")
    assert all(
        torch.equal(a, b) for a, b in zip(again.model.parameters(), whole.model.parameters(), strict=True)
    )


def test_the_anchor_of_an_epoch_is_that_of_the_uninterrupted_run(classifier, tmp_path):
    method = SalUnSoft(epochs=2, lr=0.05, paper=True)
    go = lambda **more: execute(classifier.model, classifier.by_class, method, classifier.task, **more)  # noqa: E731

    def end(row):
        if row["epoch"] == 1:
            raise Killed

    with pytest.raises(Killed):
        go(state_file=tmp_path / "s", on_row=end)
    again, whole = go(state_file=tmp_path / "s"), go()
    assert all(
        torch.equal(a, b) for a, b in zip(again.model.parameters(), whole.model.parameters(), strict=True)
    )


def test_a_teacher_shares_the_parameters_of_the_model_passed_in(classifier):
    run = execute(classifier.model, classifier.by_class, FineTune(epochs=1, lr=0.1), classifier.task)
    given, teacher, made = (dict(m.named_parameters()) for m in (classifier.model, run.original, run.model))
    for name, weight in given.items():
        assert teacher[name].data_ptr() == weight.data_ptr() != made[name].data_ptr()
        assert weight.requires_grad and not teacher[name].requires_grad
    assert not any(m.training for m in run.original.modules())
