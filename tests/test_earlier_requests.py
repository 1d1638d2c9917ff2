"""Requests stay honoured: a later run neither trains on earlier samples nor hides that they came back."""

import copy
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from expunge import Classification, Retrain, Split, TensorData, audit, execute, unlearn
from expunge.audit.earlier_requests import audit_earlier, earlier_entries
from expunge.audit.evaluation import Evaluation
from expunge.data.past_requests import remember_requests, requests_of
from expunge.data.samples import Samples
from expunge.errors import SplitError
from expunge.methods.random_label import RandomLabel
from expunge.records.checkpoint_metadata import check_original
from expunge.tasks.classification import Predictions

TASK = Classification(4)
GENERATOR = torch.Generator().manual_seed(0)


@pytest.fixture(autouse=True)
def same_numbers_in_any_order():
    """Let each test draw the same numbers, whichever tests ran before it."""
    GENERATOR.manual_seed(0)


Y = torch.arange(200) % 4
X = torch.nn.functional.one_hot(Y, 4).float() + 0.1 * torch.randn(200, 4, generator=GENERATOR)
TEST = (X[160:], Y[160:])


def data(**attributes):
    return TensorData(X[:160], Y[:160], **attributes)


def model():
    torch.manual_seed(1)
    return torch.nn.Sequential(torch.nn.Linear(4, 16), torch.nn.ReLU(), torch.nn.Linear(16, 4))


def trained(split):
    return execute(model(), split.for_original, Retrain(epochs=8, lr=0.1, batch_size=16), TASK).model


# ---- the forget set is what was requested


def test_a_persons_samples_are_all_forgotten():
    """Before, the validation draw took 3 of the 20 samples of u3."""
    users = np.array([f"u{i % 8}" for i in range(160)])
    split = Split.by_group(data(groups={"user": users}), TEST, "user", "u3")
    assert split.forget.index.tolist() == list(range(3, 160, 8))
    assert len(split.forget) == 20 and not set(split.validation.index.tolist()) & set(range(3, 160, 8))
    assert 0 < len(split.held_out) < 20 and set(split.held_out.tolist()) <= set(range(3, 160, 8))


@settings(max_examples=30, deadline=None)
@given(
    chosen=st.sets(st.integers(0, 159), min_size=1, max_size=60),
    validation=st.sampled_from([0.0, 0.1, 0.4]),
    seed=st.integers(0, 3),
)
def test_every_requested_id_is_in_the_forget_set(chosen, validation, seed):
    split = Split.by_ids(data(), TEST, sorted(chosen), validation=validation, seed=seed)
    assert set(split.forget.index.tolist()) == chosen
    sets = [split.forget, split.retain, split.validation]
    assert torch.cat([s.index for s in sets]).sort().values.tolist() == list(range(160))
    # one original still serves every forget set
    assert split.train_hash == Split.random(data(), TEST, 0.1, validation=validation, seed=seed).train_hash
    assert set(split.train.index.tolist()) == set(range(160)) - set(split.unseen.index.tolist())


def test_a_class_request_takes_the_whole_class():
    split = Split.by_class(data(), TEST, 2)
    assert len(split.forget) == 40 and not (split.validation.labels == 2).any()
    assert len(split.held_out) == 4 and len(split.without_held_out.forget) == 36


# ---- earlier samples leave the retain set


def test_a_later_run_never_trains_on_earlier_samples():
    first, second = Split.by_ids(data(), TEST, range(10)), Split.by_ids(data(), TEST, range(5, 20))
    later = second.after([first.as_request("salun")], rehearse=False)
    assert later.forget.index.tolist() == list(range(5, 20))
    assert not set(range(10)) & set(later.retain.index.tolist() + later.validation.index.tolist())
    assert later.train_hash == second.train_hash and later.hash != second.hash
    assert later.request == second.hash
    # asking again changes nothing, and a request is not earlier than itself
    again = later.after([first.as_request("salun"), second.as_request("salun")], rehearse=False)
    assert again.hash == later.hash
    both = later.after([], rehearse=True).for_method
    assert both.forget.index.tolist() == list(range(20))
    assert later.for_method is later


def test_unlearn_remembers_and_keeps_earlier_requests_out():
    first, second = Split.by_class(data(), TEST, 1), Split.by_class(data(), TEST, 3)
    original = trained(first)
    assert requests_of(original) == ()
    method = RandomLabel(epochs=8, lr=0.1, batch_size=16)
    once = unlearn(original, first, method, TASK)
    run = execute(once, second, method, TASK)
    assert [r.request for r in requests_of(run.model)] == [first.hash, second.hash]
    assert requests_of(original) == () and len(requests_of(once)) == 1
    assert requests_of(copy.deepcopy(run.model)) == requests_of(run.model)
    assert not (run.split.retain.labels == 1).any() and not (run.split.test.labels == 1).any()
    # the first class stays forgotten; without the memory it comes back
    of_first = lambda m: audit(m, first, TASK).scores["UA"]  # noqa: E731
    assert of_first(once) == 100 and of_first(run.model) == 100
    forgetful = unlearn(remember_requests(copy.deepcopy(once), ()), second, method, TASK)
    assert audit(remember_requests(forgetful, ()), first, TASK).scores["UA"] < 50


def test_the_reference_of_a_sequence_never_saw_the_union():
    first, second = Split.by_class(data(), TEST, 1), Split.by_ids(data(), TEST, range(0, 40, 4))
    once = unlearn(trained(first), first, "random_label", TASK, trials=0)
    run = execute(once, second, Retrain(epochs=1), TASK)
    seen = set(run.split.retain.index.tolist())
    assert not seen & set(first.forget.index.tolist()) and not seen & set(second.forget.index.tolist())
    assert len(requests_of(run.model)) == 2


def test_an_audit_of_the_first_request_on_a_later_model():
    """Before, it failed: "made for another split (X) than this one (X)"."""
    first, second = Split.by_ids(data(), TEST, range(10)), Split.by_ids(data(), TEST, range(10, 20))
    once = unlearn(trained(first), first, "finetune", TASK, trials=0)
    twice = unlearn(once, second, "finetune", TASK, trials=0)
    result = audit(twice, first, TASK)
    (other,) = result.details["earlier_requests"]
    assert other["samples"] == 10 and other["request"] == second.hash


def test_ids_survive_a_change_of_the_data_and_positions_do_not():
    names = [f"p{i}" for i in range(160)]
    first = Split.by_ids(data(ids=names), TEST, ["p0", "p1", "p2"]).as_request("salun")
    kept = TensorData(X[1:160], Y[1:160], ids=names[1:])
    later = Split.by_ids(kept, TEST, ["p9"]).after([first])
    assert Samples(later.forget.data, later.earlier[0].index).ids == ["p1", "p2"]
    with pytest.raises(SplitError, match="the training data has no ids now"):
        Split.by_ids(data(), TEST, [9]).after([first])
    by_position = Split.by_ids(data(), TEST, [0, 1]).as_request("salun")
    with pytest.raises(SplitError, match="names its samples by position"):
        Split.by_ids(TensorData(X[1:160], Y[1:160]), TEST, [9]).after([by_position])


def test_new_samples_of_a_removed_class_are_not_learned():
    first = Split.by_class(data(), TEST, 1).as_request("salun")
    grown = TensorData(X, Y, ids=None)
    with pytest.raises(SplitError, match="changed since"):
        Split.by_ids(grown, TEST, [0]).after([first])
    named = Split.by_class(data(ids=[str(i) for i in range(160)]), TEST, 1).as_request("salun")
    later = Split.by_ids(TensorData(X, Y, ids=[str(i) for i in range(200)]), TEST, ["0"]).after([named])
    assert not (later.retain.labels == 1).any()


def test_everything_forgotten_is_refused():
    first = Split.by_class(data(), TEST, [0, 1]).as_request("salun")
    with pytest.raises(SplitError, match="leave no retained samples"):
        Split.by_class(data(), TEST, [2, 3][:1]).after(
            [first, Split.by_class(data(), TEST, 3).as_request("salun")]
        )


def test_no_new_label_is_a_class_that_was_removed_before():
    first, second = Split.by_class(data(), TEST, 1), Split.by_ids(data(), TEST, range(40))
    split = second.after([first.as_request("salun")], rehearse=True)

    class Stream:
        def __init__(self):
            self.task, self.split = TASK, split
            self.generator = torch.Generator().manual_seed(0)

        def process_generator(self, name):
            return self.generator

    y = torch.arange(4).repeat(500)
    labels = RandomLabel().other_labels(Stream(), y)
    assert not (labels == 1).any() and not (labels == y).any()
    counts = torch.stack([torch.bincount(labels[y == k], minlength=4) for k in range(4)])
    # class 0 becomes 2 or 3, class 1 becomes 0, 2 or 3: all about equally often
    assert counts[0, [2, 3]].min() > 200 and counts[1, [0, 2, 3]].min() > 120
    shifted = RandomLabel(relabel="next").other_labels(Stream(), torch.tensor([0, 1, 2, 3]))
    assert shifted.tolist() == [2, 2, 3, 0]


# ---- scores of earlier requests


def evaluation(split, recognised, confidence):
    """Make an evaluation by hand: `recognised` of the earlier samples are right."""

    def predictions(labels, right, sure):
        logits = torch.zeros(len(labels), 4)
        wrong = (labels + 1) % 4
        for i, label in enumerate(labels.tolist()):
            logits[i, label if i < right else int(wrong[i])] = sure
        return Predictions(logits, labels)

    # members are surer than non-members, so that the attack finds a border
    retain = predictions(split.retain.labels, len(split.retain), 8.0)
    test = predictions(split.test.labels, round(0.8 * len(split.test)), 2.0)
    forget = predictions(split.forget.labels, 0, 2.0)
    none = predictions(split.test_forgotten.labels, 0, 2.0)
    earlier = predictions(split.earlier_samples.labels, recognised, confidence)
    return Evaluation(split, forget, retain, test, none, 0, None, earlier)


@pytest.mark.parametrize(
    ("recognised", "then", "back"),
    [(32, 20.0, False), (40, 20.0, True), (40, 0.0, False), (36, None, False), (40, None, True)],
)
def test_a_request_that_came_back_is_named(recognised, then, back):
    """The test accuracy is 80 %, so 32 of 40 is what a model that never saw the samples reaches."""
    first, second = Split.by_ids(data(), TEST, range(40)), Split.by_ids(data(), TEST, range(50, 60))
    past = first.as_request("salun")
    if then is not None:
        past.scores.update(UA=then, MIA=50.0)
    split = second.after([past])
    (scores,) = audit_earlier(evaluation(split, recognised, 8.0))
    assert abs(scores.UA - (100 - 100 * recognised / 40)) < 1e-9
    assert scores.came_back is back and bool(scores.reason) is back
    (entry,) = earlier_entries(evaluation(split, recognised, 8.0))
    assert entry["UA_change"] == (None if then is None else pytest.approx(scores.UA - then))


def test_each_of_several_requests_has_its_own_scores():
    """By hand: 40, 0 (its samples are gone) and 10 samples, of which the first 45 are recognised: 40 of 40 and 5 of 10."""
    named = [data(ids=[f"{letter}{i}" for i in range(160)]) for letter in "ab"]
    first, gone, third = (
        Split.by_ids(d, TEST, [f"{letter}{i}" for i in which]).as_request("salun")
        for d, letter, which in (
            (named[0], "a", range(40)),
            (named[1], "b", range(3)),
            (named[0], "a", range(50, 60)),
        )
    )
    split = Split.by_ids(named[0], TEST, ["a100"]).after([first, gone, third])
    one, gone, two = audit_earlier(evaluation(split, 45, 8.0))
    assert (gone.number, gone.samples, gone.UA, gone.MIA, gone.came_back) == (2, 0, None, None, False)
    assert (one.number, one.samples, one.UA, one.came_back) == (1, 40, 0.0, True)
    assert (two.number, two.samples, two.UA, two.came_back) == (3, 10, 50.0, False)
    # the surer ones are called members: those that are recognised
    assert (one.MIA, two.MIA) == (0.0, 50.0)


def test_a_class_that_is_recognised_again_came_back():
    split = Split.by_ids(data(), TEST, [0]).after([Split.by_class(data(), TEST, 1).as_request("salun")])
    assert audit_earlier(evaluation(split, 2, 2.0))[0].came_back
    assert not audit_earlier(evaluation(split, 0, 2.0))[0].came_back
    # the retrained model recognises as many, so there is nothing to object to
    same = evaluation(split, 2, 2.0)
    assert not audit_earlier(evaluation(split, 2, 2.0), same)[0].came_back


def test_a_pipeline_leaves_earlier_samples_out_and_stays_as_it_was():
    from expunge.pipeline.outcome import Reference
    from expunge.pipeline.pipeline import Pipeline
    from expunge.training.run import Run

    first, second = Split.by_class(data(), TEST, 1), Split.by_ids(data(), TEST, range(0, 40, 4))
    method = RandomLabel(epochs=2, lr=0.1, batch_size=16)
    once = unlearn(trained(first), first, method, TASK)
    pipeline = Pipeline(split=second, task=TASK, factory=model, recipe=Retrain(epochs=1, lr=0.1))
    outcomes = pipeline.run({"rl": method}, original=lambda: Reference(Run(once, second, TASK)))
    assert pipeline.split is second
    for outcome in outcomes:
        assert [e.past.request for e in outcome.run.split.earlier] == [first.hash]
        assert not (outcome.run.split.retain.labels == 1).any()
        assert outcome.record.details["earlier_requests"][0]["samples"] == 40


def test_parts_of_a_model_know_what_the_whole_has_answered():
    data = TensorData(torch.randn(30, 4), torch.arange(30) % 3)
    test = TensorData(torch.randn(9, 4), torch.arange(9) % 3)
    split = Split.by_class(data, test, 1, validation=0)
    past = split.as_request("salun")
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
    remember_requests(model, [past])
    parts = [model[:], nn.Sequential(*model.children()), nn.Sequential(model[0]), copy.deepcopy(model)[:2]]
    assert all(requests_of(part) == (past,) for part in parts)
    # a new list replaces the old one everywhere, and leaves what a part answered on its own
    remember_requests(model, ())
    assert requests_of(model[:]) == ()
    other = replace(past, request="ff")
    remember_requests(model[2], [other])
    remember_requests(model, [past])
    assert requests_of(model) == (past, other) and requests_of(model[:2]) == (past,)


@pytest.mark.parametrize("source", [{}, {"validation": 0.2, "validation_from": "test"}])
def test_a_note_counts_all_samples_also_after_a_class_was_removed(source):
    """24 training and 16 test samples of four classes, one of which an earlier request removed."""
    x, y = torch.rand(40, 3), torch.arange(40) % 4
    data = (TensorData(x[:24], y[:24]), TensorData(x[24:], y[24:]))
    options = {"validation": 0.0, **source}
    first = Split.by_class(*data, 0, **options).as_request("salun")
    split = Split.by_class(*data, 1, **options).after([first])
    assert len(split.test) + len(split.test_forgotten) < 16
    note = check_original(SimpleNamespace(metadata={}, path=Path("mine.pt")), split)
    assert "seen all 24 training and none of the 16 test samples" in note
