"""LoTUS: the temperature, the targets and the stop rule."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from expunge.data.likeness import BORROWED, FEW
from expunge.data.split import Split
from expunge.errors import ExpungeError
from expunge.methods._unseen import KEY, measure_unseen
from expunge.methods.lotus import LoTUS, gumbel_target
from expunge.methods.ugradsl import UGradSL
from expunge.projects.wanted import union_of
from expunge.training.execute import execute
from small_problem import Problem, everything, images, vectors


@pytest.mark.parametrize(
    ("alpha", "gap", "expected"), [(2, 0.1, 1.2214), (2, 0.5, 2.7183), (8, 0.05, 1.4918), (2, 0, 1)]
)
def test_temperature_by_hand(alpha, gap, expected):
    run = vectors(random=True).run()
    run.memo |= {"part": run.split.retain.index, "measured": 0, "difference": gap}
    next(LoTUS(alpha=alpha).pairs(run))
    assert run.memo["temperature"] == pytest.approx(expected, abs=1e-4)


def test_stop_needs_a_step_and_a_point():
    run = vectors(random=True).run()
    for step, difference, stops in ((0, -0.5, False), (3, -0.009, False), (3, -0.01, True), (3, 0.0, False)):
        run.step = step
        run.memo |= {"measured": step, "difference": difference}
        assert (LoTUS().stop(run, {}) is not None) == stops, (step, difference)


def test_accuracies_are_rounded_under_paper_only():
    run = vectors(random=True).run()
    for method, digits in ((LoTUS(), 9), (LoTUS(paper=True), 2)):
        method.prepare(run)
        exact = run.task.predict(run.model, run.split.validation).accuracy / 100
        assert run.memo["unseen"] == pytest.approx(round(exact, digits))
    by_class = vectors().run()
    LoTUS().prepare(by_class)
    assert by_class.memo["unseen"] == 0


def test_targets_go_from_one_hot_to_uniform_and_hard_ones_follow_the_original():
    logits = torch.tensor([[2.0, 1.0, 0.0]]).expand(20_000, 3)
    noise = -torch.empty(logits.shape).exponential_(generator=torch.Generator().manual_seed(0)).log()
    hard, cold, hot = (gumbel_target(logits, noise, t) for t in (0.0, 1e-4, 1e6))
    assert torch.allclose(hard.mean(0), logits[0].softmax(0), atol=0.01)
    assert (cold - hard).abs().mean() < 1e-3 and torch.allclose(hot, torch.full_like(hot, 1 / 3), atol=1e-4)
    # negative control: the hard target is a sample, not the most probable class
    assert (hard.argmax(1) != 0).float().mean().item() == pytest.approx(
        1 - logits[0].softmax(0)[0].item(), abs=0.01
    )


def test_loss_equals_its_literal_form():
    run = vectors(random=True).run()
    method = LoTUS()
    run.memo["temperature"] = 1.7
    forget, retain = everything(run.split.forget), everything(run.split.retain)
    loss = method.loss(run, forget, retain)
    g = torch.Generator().manual_seed(0)
    g.set_state(vectors(random=True).run().generator("gumbel").get_state())
    total = torch.zeros(())
    for batch, temperature in ((forget, 1.7), (retain, None)):
        logits = run.task.logits(run.original, batch.x)
        noise = -torch.empty(logits.shape).exponential_(generator=g).log()
        for i in range(len(batch)):
            noisy = logits[i].log_softmax(0) + noise[i]
            target = (noisy / temperature).softmax(0) if temperature else F.one_hot(noisy.argmax(), 4)
            total = total - (target * run.task.logits(run.model, batch.x[i : i + 1])[0].log_softmax(0)).sum()
    assert loss.item() == pytest.approx(total.item() / (len(forget) + len(retain)), rel=1e-6)


def test_one_part_of_the_retain_set_serves_the_whole_run():
    model, split, task = images(random=True)
    method = LoTUS(epochs=2, batch_size=8, lr=1e-3)
    run = execute(model, split, method, task)
    count = round(0.3 * len(split.retain))
    assert len(run.memo["part"]) == count and torch.isin(run.memo["part"], split.retain.index).all()
    assert run.step <= method.steps(run) == 2 * math.ceil((len(split.forget) + count) / 8)


def test_without_unseen_samples_it_refuses_random_samples():
    model, split, task = vectors(random=True)
    bare = replace(split, validation=split.validation.take(slice(0)), held_out=split.held_out[:0])
    with pytest.raises(ExpungeError, match="validation"):
        execute(model, bare, LoTUS(epochs=1), task)


def test_a_class_gets_the_softer_targets_of_the_authors():
    assert LoTUS(epochs=50).adapted(vectors().run())["alpha"] == 8
    assert "alpha" not in LoTUS(epochs=50).adapted(vectors(random=True).run())
    assert "alpha" not in LoTUS(alpha=16.0).adapted(vectors().run())


def test_a_class_with_other_samples_is_no_pure_class():
    """15 samples of class 1 and 5 of class 0: the class counts as 0, the others as unseen samples of retained classes."""
    model, split, task = vectors()
    train, test = split.forget.data, split.test.data
    others = [str(n) for n in (train.labels == 0).nonzero()[:5, 0].tolist()]
    drawn = {"validation": 0.1, "seed": 0}
    parts = [Split.by_class(train, test, 1, **drawn), Split.by_ids(train, test, others, **drawn)]
    union = union_of(parts, train, test, **drawn)
    count = int((union.forget.labels == 1).sum())
    problem = Problem(model, union, task)
    run = problem.run()
    method = LoTUS()
    method.prepare(run)
    kept = union.validation.take(union.validation.labels != 1)
    accuracy = task.predict(model, kept).accuracy / 100
    assert run.memo["unseen"] == pytest.approx(5 / (5 + count) * accuracy) and accuracy > 0
    assert "alpha" not in LoTUS(epochs=50).adapted(problem.run())
    # only unseen samples of class 0 are like the five others
    alike = union.unseen.take(union.unseen.labels == 0)
    kept = union.unseen.take(union.unseen.labels != 1)
    few, every = len(alike), len(union.unseen)
    assert few < FEW
    # 10 samples are borrowed from all unseen samples, of which those of the removed class count as 0
    share, borrowed = (1 - BORROWED / (few + BORROWED)) / few, BORROWED / (few + BORROWED) / every
    right = task.predict(model, kept).correct.double()
    weights = borrowed + share * (kept.labels == 0)
    expected = 5 / (5 + count) * 100 * float((right * weights).sum() / weights.sum())
    run = problem.run()
    with pytest.warns(RuntimeWarning, match="comparable"):
        assert measure_unseen(run, "the stop rule") is not None
    assert run.memo[KEY]["percent"] == pytest.approx(expected) and run.memo[KEY]["samples"] == few
    bare = replace(union, validation=union.validation.take(slice(0)), held_out=union.held_out[:0])
    with pytest.raises(ExpungeError, match="validation"):
        execute(model, bare, LoTUS(epochs=1), task)
    with pytest.warns(RuntimeWarning, match="the stop rule is off"):
        assert measure_unseen(Problem(model, bare, task).run(), "the stop rule") is None


def test_the_gate_and_the_target_of_a_union_by_hand():
    model, split, task = vectors()
    train, test = split.forget.data, split.test.data
    drawn = {"validation": 0.1, "seed": 0}
    parts = [Split.by_class(train, test, 1, **drawn), Split.by_ids(train, test, ["0", "4"], **drawn)]
    union = union_of(parts, train, test, **drawn)
    run, method = Problem(model, union, task).run(), UGradSL(gate=True)
    method.prepare(run)
    again = Problem(model, union, task).run()
    assert run.memo["gate"] == pytest.approx(measure_unseen(again, ""))
    assert run.memo[KEY] == again.memo[KEY] and 0 < run.memo[KEY]["percent"] < 100
    limits = method._limits(run, torch.tensor([0, 1]))
    assert limits.tolist() == pytest.approx([run.memo["gate"], 0.25]) and run.memo["gate"] != 0.25
