"""States of interrupted runs: how often they are written, and that curves go on where they were."""

from __future__ import annotations

import pytest

from expunge import resume
from expunge.method import execute
from expunge.methods.finetune import FineTune
from expunge.methods.salun import SalUn


class Killed(Exception):
    pass


def killed_in(epoch):
    """A method that ends the process in the middle of an epoch."""

    class Bomb(FineTune):
        def loss(self, run, forget, retain):
            if run.epoch == epoch:
                raise Killed
            return super().loss(run, forget, retain)

    Bomb.__name__ = "FineTune"
    return Bomb


def test_curves_of_looks_that_several_epochs_share_are_gone_on_with(generator, tmp_path):
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


def test_short_runs_and_classifiers_are_looked_at_after_every_epoch(generator, classifier):
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
    monkeypatch.setattr(resume, "SMALL", 0)
    monkeypatch.setattr(resume, "REST", 10**12)
    go()
    assert epochs == [1, 6]


def test_a_teacher_holds_the_weights_handed_in_and_no_copies_of_them(classifier):
    run = execute(classifier.model, classifier.by_class, FineTune(epochs=1, lr=0.1), classifier.task)
    given, teacher, made = (dict(m.named_parameters()) for m in (classifier.model, run.original, run.model))
    for name, weight in given.items():
        assert teacher[name].data_ptr() == weight.data_ptr() != made[name].data_ptr()
        assert weight.requires_grad and not teacher[name].requires_grad
    assert not any(m.training for m in run.original.modules())
