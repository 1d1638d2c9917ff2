"""Validation samples from the test set or by name, and what stop rules and trials do with and without them."""

import copy
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import nn

from expunge import NHLE, Classification, ExpungeError, Split, SplitError, TensorData, execute
from expunge.audit.evaluation import evaluate
from expunge.audit.interclass_confusion import confuse
from expunge.bench.grid import read_grid
from expunge.bench.model_store import ModelStore
from expunge.cli import main
from expunge.data.likeness import few_text, importance_weights
from expunge.data.past_requests import remember_requests, requests_of
from expunge.data.split_settings import SplitSpec
from expunge.masks.per_sample_gradients import random_samples
from expunge.methods._hardness import memorisation
from expunge.methods.delete import Delete
from expunge.methods.finetune import FineTune
from expunge.methods.forsaken import Forsaken
from expunge.methods.jit import JIT
from expunge.methods.lotus import LoTUS
from expunge.methods.ugradsl import UGradSL
from expunge.methods.ugradsl_plus import UGradSLPlus
from expunge.pipeline.experiment import experiment
from expunge.records.checkpoint import read_checkpoint
from expunge.records.record import Record
from expunge.training.guard import Guard
from expunge.training.run import Run
from expunge.tuning.auto import can_search
from expunge.tuning.caution import worse_text
from expunge.tuning.estimate import expected_scores, predict_sets
from expunge.tuning.trials import tune

TASK = Classification(4)


def data(n, k=4, first=0, **options):
    x = (torch.arange(n * 4) % 251 + first).reshape(n, 1, 2, 2).to(torch.uint8)
    return TensorData(x, torch.arange(n) % k, **options)


NAMES = [f"s{k}" for k in range(40)]
TRAIN = data(40, ids=NAMES, groups={"user": [f"u{k % 5}" for k in range(40)]})
TEST = data(40, first=3, ids=[f"t{k}" for k in range(40)], groups={"user": [f"u{k % 5}" for k in range(40)]})
QUIET = {"copies": "ignore"}


# ---- which samples go where


def test_positions_by_hand():
    """40 samples of 4 classes: a share of 0.1 is one of each class. The draw depends on labels, share and seed only."""
    held_out = Split.random(TRAIN, TEST, 0.2, **QUIET)
    drawn = Split.random(TRAIN, TEST, 0.2, validation_from="test", **QUIET)
    assert held_out.validation.index.tolist() == drawn.validation.index.tolist() == [13, 16, 18, 39]
    assert drawn.validation.data is drawn.test.data and held_out.validation.data is held_out.forget.data
    assert drawn.validation.ids == ["t13", "t16", "t18", "t39"] == drawn.unseen.ids
    assert drawn.test.index.tolist() == [k for k in range(40) if k not in (13, 16, 18, 39)]
    assert len(drawn.train) == 40 and len(held_out.train) == 36 and len(drawn.held_out) == 0
    assert drawn.spec["validation_from"] == "test" and "validation_from" not in held_out.spec
    other = Split.random(TRAIN, TEST, 0.2, validation_from="test", seed=1, **QUIET)
    assert other.validation.index.tolist() != drawn.validation.index.tolist()


def test_drawn_test_samples_of_a_forgotten_class_are_unseen_forgotten_samples():
    split = Split.by_class(TRAIN, TEST, 1, validation_from="test", **QUIET)
    # sample 13 has label 1
    assert split.validation.index.tolist() == [13, 16, 18, 39]
    assert split.test_forgotten.index.tolist() == [k for k in range(1, 40, 4) if k != 13]
    assert split.forget.index.tolist() == list(range(1, 40, 4)) and len(split.held_out) == 0
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 4))
    sets = predict_sets(model, split, TASK)
    assert sets.validation_forgotten.labels.tolist() == [1] and sets.validation.labels.tolist() == [0, 2, 3]
    run = Run(model, split, TASK)
    assert Guard(run, NHLE())._sets()["retain"].index.tolist() == [16, 18, 39] and not run.notes


KINDS = {
    "class": lambda **o: Split.by_class(TRAIN, TEST, [1, 2], **o, **QUIET),
    "part of a class": lambda **o: Split.by_class(TRAIN, TEST, 1, share=0.5, **o, **QUIET),
    "random": lambda **o: Split.random(TRAIN, TEST, 0.2, **o, **QUIET),
    "ids": lambda **o: Split.by_ids(TRAIN, TEST, ["s3", "s8"], **o, **QUIET),
    "group": lambda **o: Split.by_group(TRAIN, TEST, "user", "u2", **o, **QUIET),
}


@settings(max_examples=30, deadline=None)
@given(kind=st.sampled_from(sorted(KINDS)), share=st.floats(0.06, 0.6), seed=st.integers(0, 9))
def test_no_sample_is_in_two_sets(kind, share, seed):
    split = KINDS[kind](validation=share, validation_from="test", seed=seed)
    of_train = torch.cat([s.index for s in (split.forget, split.retain, split.withheld)])
    of_test = torch.cat([s.index for s in (split.validation, split.test, split.test_forgotten)])
    for positions in (of_train, of_test):
        assert positions.sort().values.tolist() == list(range(40))
    counts = torch.bincount(split.validation.labels, minlength=4).tolist()
    assert counts == [round(share * 10)] * 4
    # the original is the one without validation set, for every forget set
    assert split.train_hash == KINDS["random"](validation=0).train_hash
    assert split.hash == KINDS[kind](validation=share, validation_from="test", seed=seed).hash
    hashes = {KINDS[kind](validation=v, seed=seed).hash for v in (0, share)} | {split.hash}
    assert len(hashes) == 3


def test_hashes_of_splits_from_the_training_set_have_not_changed():
    """Hashes of revision b5bada4, before there was another source. Receipts and checkpoints hold them."""
    test = data(20, first=3)
    splits = [
        Split.by_class(TRAIN, test, 1, **QUIET),
        Split.by_class(TRAIN, test, 1, share=0.5, **QUIET),
        Split.random(TRAIN, test, 0.2, seed=3, **QUIET),
        Split.by_ids(TRAIN, test, ["s3", "s8"], validation=0, **QUIET),
        Split.by_group(TRAIN, test, "user", "u2", **QUIET),
    ]
    assert [s.hash[:12] for s in splits] == [
        "1e265d445df6", "9a313b06696d", "d6eaface2c03", "2af366870888", "84897906d5f7",
    ]  # fmt: skip


def test_the_hash_says_from_which_set_the_positions_are():
    """Negative control: the same positions in training and test set are other splits."""
    drawn = KINDS["ids"](validation_from="test")
    same = replace(drawn, validation=TRAIN.samples(drawn.validation.index))
    assert same.hash != drawn.hash


def test_later_requests_leave_the_validation_set_of_test_samples():
    split = KINDS["ids"](validation_from="test")
    past = KINDS["class"](validation_from="test").as_request("salun")
    later = split.after([past])
    assert later.validation_from_test and set(later.validation.labels.tolist()) == {0, 3}
    assert not set(later.retain.labels.tolist()) & {1, 2} and set(later.test.labels.tolist()) == {0, 3}
    # positions of the earlier forget set are no positions of the test set
    of_ids = split.after([Split.by_ids(TRAIN, TEST, ["s13"], validation=0, **QUIET).as_request("salun")])
    assert of_ids.validation.index.tolist() == split.validation.index.tolist()


def test_weights_of_a_group_look_up_the_test_set():
    wide = data(400, first=1, groups={"user": [f"u{k % 5}" for k in range(400)]})
    split = Split.by_group(TRAIN, wide, "user", "u2", validation=0.5, validation_from="test", **QUIET)
    users = np.array(wide.groups["user"])[split.validation.index.numpy()]
    assert ((importance_weights(split) > 0).numpy() == (users == "u2")).all()
    bare = Split.by_group(TRAIN, data(400, first=1), "user", "u2", validation_from="test", **QUIET)
    assert (importance_weights(bare) > 0).all()


def test_changed_labels_leave_validation_samples_of_the_test_set_as_they_are():
    split = KINDS["random"](validation_from="test")
    other = confuse(split, (0, 1), 4)
    assert other.validation.data is split.test.data and other.validation_from_test


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"validation_from": "tset"}, "validation_from is 'tset'; give train or test"),
        ({"validation_from": "test", "validation": 0}, "validation_from is test and validation is 0"),
        ({"validation_from": "test", "validation": 0.01}, "of the 40 test samples is none"),
        ({"validation_from": "test", "validation": 0.99}, "leaves no test samples"),
        ({"validation_from": "test", "unseen_ids": ["s1"]}, "both say what the validation set is"),
        ({"validation": 0.3, "unseen_ids": ["s1"]}, "validation 0.3 and unseen_ids are given, which both say"),
        ({"unseen_ids": []}, "no id of an unseen sample"),
        ({"unseen_ids": ["s1", "t1"]}, "1 ids of unseen samples are in the training set .* and 1 in the test set"),
        ({"unseen_ids": ["s3", "s5"]}, "1 requested ids are also named as never seen .first: .'s3'"),
    ],
)  # fmt: skip
def test_refusals(options, words):
    with pytest.raises(SplitError, match=words):
        KINDS["ids"](**options)


def test_all_problems_of_named_samples_are_told_at_once():
    with pytest.raises(SplitError) as error:
        KINDS["ids"](unseen_ids=["s1", "s1", "nobody"])
    text = str(error.value)
    assert "unseen samples: 1 id, 'nobody', is unknown" in text and "given twice" in text
    flags = SplitSpec(forget_share=0.1, validation_from="test", validation=0.0)
    assert flags.problems() == [
        "validation_from is test and validation is 0; give a share of the test set, such as 0.1."
    ]


def test_named_samples_are_the_validation_set(tmp_path):
    (tmp_path / "unseen.txt").write_text("s5\ns6\n\ns1\n", encoding="utf-8")
    split = SplitSpec(forget_ids=None, forget_class=("1",), unseen_ids=tmp_path / "unseen.txt").draw(
        TRAIN, TEST
    )
    # s1 and s5 have label 1: they are forgotten, and the original never saw them
    assert split.validation.ids == ["s6"] and split.held_out.tolist() == [1, 5]
    assert split.unseen.ids == ["s1", "s5", "s6"] and split.spec["unseen_ids"] == 3
    assert len(split.train) == 37 and "s5" not in str(split.to_dict())
    of_test = Split.by_ids(TRAIN, TEST, ["s3"], unseen_ids=["t7", "t8"], **QUIET)
    assert of_test.validation.ids == ["t7", "t8"] and of_test.validation_from_test
    assert len(of_test.train) == 40 and len(of_test.test) == 38


def test_named_samples_in_other_spellings():
    """Spaces and `./` as in a request, also for ids of the test set."""
    named = [f"train/{k}.png" for k in range(40)], [f"test/{k}.png" for k in range(40)]
    train, test = (data(40, first=k, ids=ids) for k, ids in zip((0, 3), named, strict=True))
    train.root = test.root = "pictures"
    forget = ["train/3.png"]
    for ids in ([" test/7.png", "./test/8.png"], ["pictures/test/7.png", "test/8.png "]):
        split = Split.by_ids(train, test, forget, unseen_ids=ids, **QUIET)
        assert split.validation.ids == ["test/7.png", "test/8.png"] and split.validation_from_test
    split = Split.by_ids(train, test, forget, unseen_ids=["./train/5.png "], **QUIET)
    assert split.validation.ids == ["train/5.png"]
    for ids, words in (
        (["./train/5.png", "./test/7.png"], "1 ids .* in the training set .* and 1 in the test set"),
        (["./test/7.png", "test/7.png"], "given twice"),
        (["./test/7.png", "nobody"], "1 id, 'nobody', is unknown"),
    ):
        with pytest.raises(SplitError, match=words) as error:
            Split.by_ids(train, test, forget, unseen_ids=ids, **QUIET)
        assert "never forgotten" not in str(error.value)


def test_samples_of_earlier_requests_are_not_unseen():
    """A group request whose samples are named as unseen, though an earlier run worked on two of them."""
    earlier = Split.by_ids(TRAIN, TEST, ["s2", "s7"], validation=0, **QUIET).as_request("salun")
    split = Split.by_group(TRAIN, TEST, "user", "u2", unseen_ids=["s2", "s7", "s12", "s1"], **QUIET)
    assert split.unseen.ids == ["s1", "s2", "s7", "s12"]
    later = split.after([earlier])
    assert later.unseen.ids == ["s1", "s12"] and later.train_hash == split.train_hash


# ---- rules and trials with each source


@pytest.fixture(scope="module")
def problem():
    """A model that remembers 240 noisy points of 4 classes, and is right on about two thirds of the others."""
    draw = torch.Generator().manual_seed(0)
    y = torch.arange(640) % 4
    x = torch.randn(640, 12, generator=draw) + 1.2 * nn.functional.one_hot(y, 12)
    train, test = TensorData(x[:240], y[:240]), TensorData(x[240:], y[240:])
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(12, 96), nn.ReLU(), nn.Linear(96, 4))
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    for _ in range(150):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x[:240]), y[:240]).backward()
        optimizer.step()
    return model.eval(), train, test


def split_of(problem, kind, source, forgotten=0.15):
    _, train, test = problem
    options = {
        "test": {"validation_from": "test", "validation": 0.4},
        "named": {"unseen_ids": [str(k) for k in range(200, 240)]},
        "none": {"validation": 0},
        "train": {"validation": 0.1},
    }[source]
    if kind == "class":
        return Split.by_class(train, test, 1, **options, **QUIET)
    return Split.random(train, test, forgotten, **options, **QUIET)


@pytest.mark.parametrize("source", ["train", "test", "named"])
def test_rules_take_their_limits_from_each_source(problem, source):
    model, split = problem[0], split_of(problem, "random", source)
    predicted = TASK.predict(model, split.unseen)
    run = Run(copy.deepcopy(model), split, TASK, source=model)
    for method, key in ((UGradSL(), "stop_target"), (JIT(), "stop_target"), (LoTUS(), "unseen")):
        method.prepare(run)
        share = 100 * run.memo[key] if key == "unseen" else run.memo[key]["percent"]
        assert share == pytest.approx(predicted.accuracy, rel=1e-4)
    UGradSL().prepare(run)
    assert run.memo["gate"] == pytest.approx(predicted.confidence.mean().item(), rel=1e-4)
    Forsaken().prepare(run)
    assert torch.allclose(run.memo["targets"][2], predicted.logits.softmax(1)[predicted.labels == 2].mean(0))
    assert memorisation(run, split.forget, "held_out").max() > 0
    assert run.notes == ([few_text(24)] if source == "train" else [])
    guarded = Guard(run, NHLE())._sets()["retain"]
    assert guarded.data is split.validation.data and guarded.index.tolist() == split.validation.index.tolist()
    assert can_search(FineTune(), split, TASK)


def test_without_unseen_samples_a_random_request_has_no_target_and_says_so(problem):
    model, split = problem[0], split_of(problem, "random", "none")
    remedy = "validation_from='test'"
    run = Run(copy.deepcopy(model), split, TASK, source=model)
    with pytest.warns(RuntimeWarning, match="so the gate and the stop rule are off"):
        UGradSL().prepare(run)
    with pytest.warns(RuntimeWarning, match="so the stop rule is off"):
        JIT().prepare(run)
    with pytest.warns(RuntimeWarning, match="ranked by confidence"):
        memorisation(run, split.forget, "held_out")
    assert len(run.notes) == 3 and all(remedy in text for text in run.notes)
    for method in (LoTUS(), Forsaken()):
        with pytest.raises(ExpungeError, match=remedy):
            method.prepare(run)
    with pytest.raises(ExpungeError, match=remedy):
        tune(model, split, FineTune(), TASK)
    with pytest.warns(RuntimeWarning):
        record = experiment(model, split, "ugradsl_plus", TASK).record
    notes = record.details["notes"]
    assert "no settings were tried" in notes[0] and "the gate and the stop rule are off" in notes[1]
    assert "trials" not in record.details
    # the limit on the drop needs no unseen samples
    run = Run(copy.deepcopy(model), split, TASK, source=model)
    guard = Guard(run, Delete(max_drop=5.0))
    assert guard.sets["retain"].data is split.retain.data and "retained training samples" in run.notes[0]


def test_without_unseen_samples_a_class_request_uses_the_retain_set(problem):
    model, split = problem[0], split_of(problem, "class", "none")
    assert len(split.unseen) == 0 and can_search(UGradSLPlus(), split, TASK)
    run = Run(copy.deepcopy(model), split, TASK, source=model)
    UGradSL().prepare(run)
    assert run.memo["gate"] == 0.25 and run.memo["stop_target"]["percent"] == 0 and not run.notes
    Forsaken().prepare(run)
    few = random_samples(split.retain, 2048, run.generator("unseen"))
    assert torch.allclose(
        run.memo["targets"][1], TASK.predict(model, few).logits.softmax(1).mean(0), atol=1e-6
    )
    sets = predict_sets(model, split, TASK)
    expected = expected_scores(sets, split)
    assert expected["UA"] == 100 and expected["RA"] == sets.retain.accuracy
    record = experiment(model, split, "ugradsl_plus", TASK).record
    assert record.ended in ("finished", "stopped") and record.scores["UA"] > 90 and record.scores["RA"] > 90
    assert len(record.details["trials"]) >= 1
    assert record.details["notes"][0].startswith("trials were chosen by the forget set and by retained")
    assert tune(model, split, UGradSLPlus(epochs=30), TASK, count=2).trials[0].distance < 10
    # a run that destroys the model is found without unseen samples too
    broken = copy.deepcopy(model)
    with torch.no_grad():
        broken[2].weight.zero_()
        broken[2].bias.copy_(torch.tensor([0.0, 9.0, 0.0, 0.0]))
    remember_requests(broken, requests_of(model))
    text = worse_text(evaluate(broken, split, TASK), evaluate(model, split, TASK), None, TASK)
    assert "The run did harm" in text


def test_the_gate_from_the_test_set_keeps_a_random_request_from_being_forgotten_too_much(problem):
    """Negative control: without unseen samples the same method forgets far more than a model that never saw the samples."""
    model = problem[0]
    method = UGradSL(
        lr=0.05, p=0.5, smoothing=-1.0, epochs=30, probe_every=1, batch_size=32, clip=None, max_drop=100
    )
    guarded = execute(model, split_of(problem, "random", "test"), method, TASK)
    with pytest.warns(RuntimeWarning, match="are off"):
        free = execute(model, split_of(problem, "random", "none"), method, TASK)
    split = guarded.split
    unseen = TASK.predict(model, split.test).accuracy
    kept, lost = (TASK.predict(r.model, split.forget).accuracy for r in (guarded, free))
    assert guarded.ended == "stopped" and "reached that of unseen samples" in guarded.status
    assert abs(kept - unseen) < 15 and unseen - lost > 30


def test_the_limit_on_the_drop_uses_retained_samples_where_there_are_no_others(problem):
    """Negative control: with a limit of 100 points, the same run destroys the model."""
    model, split = problem[0], split_of(problem, "random", "none")
    method = Delete(lr=0.5, epochs=20, probe_every=1, max_drop=5.0)
    held = execute(model, split, method, TASK)
    free = execute(model, split, replace(method, max_drop=100.0), TASK)
    before = TASK.predict(model, split.retain).accuracy
    assert TASK.predict(held.model, split.retain).accuracy >= before - 5
    assert TASK.predict(free.model, split.retain).accuracy < before - 20 and not free.notes
    assert "max_drop was measured on retained training samples" in held.notes[0]


def test_a_run_on_test_samples_never_scores_them(problem):
    """What chose the settings is in no set of the audit."""
    split = split_of(problem, "class", "test")
    record = experiment(problem[0], split, "ugradsl_plus", TASK).record
    assert len(record.details["trials"]) >= 1 and "notes" not in record.details
    assert record.split["validation_from"] == "test" and record.split["sizes"]["validation"] == 160
    evaluated = evaluate(problem[0], split, TASK)
    assert len(evaluated.test.labels) + len(evaluated.test_forgotten.labels) == 400 - 160


# ---- the command line


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A checkpoint of another program, whose model saw all 300 training samples, and one of `expunge train`."""
    folder = tmp_path_factory.mktemp("unseen")
    flags = ["--epochs", "4", "--batch-size", "64", "--validation-from", "test"]
    assert main(["train", *DIGITS, *flags, "--out", str(folder / "own.safetensors")]) == 0
    save_file(read_checkpoint(folder / "own.safetensors").state, folder / "theirs.safetensors")
    return folder


DIGITS = ["--data", "digits?limit=300&test_limit=200", "--model", "mlp"]
QUICK = ["--forget-class", "3", "--epochs", "1", "--batch-size", "64"]


def test_the_commands_draw_the_same_test_samples(folder, tmp_path, capsys):
    checkpoint, out = str(folder / "theirs.safetensors"), tmp_path / "out.safetensors"
    ready = [*DIGITS, *QUICK[:2], "--validation-from", "test"]
    assert (
        main(["unlearn", "ugradsl_plus", *ready, *QUICK[2:], "--checkpoint", checkpoint, "--out", str(out)])
        == 0
    )
    told = capsys.readouterr().err
    assert "20 test samples are the validation set; audits use the other 180" in told
    assert (
        "seen all 300 training and none of the 200 test samples" in told and "the choice is poor" not in told
    )
    record = Record.load(out.with_suffix(".json"))
    assert record.split["validation_from"] == "test" and len(record.details["trials"]) >= 1
    assert json.loads(read_checkpoint(out).metadata["split"])["validation_from"] == "test"
    assert main(["audit", *ready, "--original", checkpoint, "--checkpoint", str(out)]) == 0
    capsys.readouterr()
    # the draw is part of what must agree
    assert main(["audit", *ready[:-2], "--original", checkpoint, "--checkpoint", str(out)]) == 2
    assert "validation from test" in capsys.readouterr().err


def test_the_checkpoint_says_which_set_was_drawn_from(folder, tmp_path, capsys):
    own = ["--checkpoint", str(folder / "own.safetensors"), "--out", str(tmp_path / "out.safetensors")]
    # an original that saw all samples serves both
    assert (
        main(["unlearn", "salun", *DIGITS, *QUICK, "--trials", "0", "--validation-from", "test", *own]) == 0
    )
    assert main(["unlearn", "salun", *DIGITS, *QUICK, "--trials", "0", *own]) == 2
    error = capsys.readouterr().err
    assert "share 0.1 of the test set" in error and "--validation-from" in error
    theirs = ["--checkpoint", str(folder / "theirs.safetensors"), "--out", str(tmp_path / "b.safetensors")]
    assert main(["unlearn", "salun", *DIGITS, *QUICK, *theirs]) in (0, 3)
    told = capsys.readouterr().err
    assert "if it saw the whole training set, add --validation-from test" in told
    assert "Add --validation-from test then" in told


def test_flags_that_contradict_each_other_are_refused_before_any_data_is_read(tmp_path, capsys):
    flags = ["--data", "digits", "--model", "mlp", "--forget-class", "3", "--validation-from", "test"]
    (tmp_path / "ids.txt").write_text("1\n")
    out = ["--checkpoint", str(tmp_path / "none.pt")]
    assert (
        main(
            ["unlearn", "salun", *flags, *out, "--validation", "0", "--unseen-ids", str(tmp_path / "ids.txt")]
        )
        == 2
    )
    assert "--validation-from and --unseen-ids are given" in capsys.readouterr().err
    assert main(["unlearn", "salun", *flags, *out, "--validation", "0"]) == 2
    assert "--validation-from is test and --validation is 0" in capsys.readouterr().err


def test_a_grid_draws_from_the_test_set(tmp_path):
    grid = 'data = ["digits?limit=100"]\nseeds = [0]\n[[split]]\nforget_share = 0.1\nvalidation_from = "test"\n[[method]]\nname = "salun"\n'
    (tmp_path / "g.toml").write_text(grid)
    job = read_grid(tmp_path / "g.toml").jobs[0]
    assert ModelStore(tmp_path).setting(job)[1].validation_from_test
    (tmp_path / "g.toml").write_text(
        grid.replace('"test"', '"tests"') + '[[split]]\nforget_share = 0.1\nunseen_ids = "none.txt"\n'
    )
    with pytest.raises(ExpungeError) as error:
        read_grid(tmp_path / "g.toml")
    assert "none.txt is no file" in str(error.value) and "validation_from" in str(error.value)


# ---- samples that the model was trained on


def test_ids_of_both_sets_are_refused_however_the_forget_set_is_drawn():
    test = data(40, first=3, ids=[*(f"t{k}" for k in range(38)), "s7", "s8"])
    for draw in (
        lambda: Split.by_ids(TRAIN, test, ["s1"], validation=0),
        lambda: Split.by_ids(TRAIN, test, ["s1"], unseen_ids=["t1"]),
        lambda: Split.by_class(TRAIN, test, 1),
        lambda: Split.random(TRAIN, test, validation_from="test"),
    ):
        with pytest.raises(
            SplitError, match=r"2 ids are in the training set and in the test set \(first: \['s7', 's8'\]\)"
        ):
            draw()
    # the control: without ids, positions are no ids of the test set
    assert Split.random(data(40), data(40, first=3), **QUIET)


def copied(places):
    """Test data whose samples at `places` are the training samples at the same places."""
    # falling values, which no training sample has
    x = TRAIN.x.flip(3)
    x[places] = TRAIN.x[places]
    return TensorData(x, TRAIN.labels)


@pytest.mark.parametrize("handling", ["include", "report"])
def test_copies_of_kept_samples_leave_the_validation_set(handling):
    plain = Split.by_ids(TRAIN, copied([]), ["s1"], validation=0.5, validation_from="test", copies=handling)
    drawn = plain.validation.index.tolist()
    # sample 1 is the one to forget
    drawn = [k for k in drawn if k != 1]
    places = [*drawn[:3], *(k for k in range(40) if k not in (1, *drawn))][:5]
    with pytest.warns(
        UserWarning,
        match=r"3 test samples drawn or named for validation are exact copies of training samples",
    ):
        split = Split.by_ids(
            TRAIN, copied(places), ["s1"], validation=0.5, validation_from="test", copies=handling
        )
    assert (
        set(split.unseen.index.tolist()) == {*plain.validation.index.tolist()} - {*drawn[:3]}
        and split.copies.left_out.tolist() == drawn[:3]
    )
    # they do not return to the test set
    assert split.test.index.tolist() == plain.test.index.tolist()
    assert split.copies.seen.of.index.tolist() == drawn[:3] and split.copies.seen_in_test == 2
    assert split.hash != plain.hash and split.copies.to_dict()["seen"]["count"] == 3
    ignored = Split.by_ids(
        TRAIN, copied(places), ["s1"], validation=0.5, validation_from="test", copies="ignore"
    )
    assert ignored.validation.index.tolist() == plain.validation.index.tolist()


def test_copies_of_samples_of_earlier_requests_are_no_unseen_samples():
    places = Split.by_ids(
        TRAIN, copied([]), ["s1"], validation=0.5, validation_from="test"
    ).validation.index.tolist()[:2]
    with pytest.warns(UserWarning, match="2 test samples drawn or named"):
        split = Split.by_ids(TRAIN, copied(places), ["s1"], validation=0.5, validation_from="test")
    first = Split.by_ids(TRAIN, copied([]), [f"s{k}" for k in places], validation=0)
    after = split.after([first.as_request("retrain")])
    assert not set(after.unseen.index.tolist()) & set(places)


def test_a_test_set_of_training_samples_alone_is_refused():
    with pytest.raises(
        SplitError, match="all 20 test samples of the validation set are exact copies of training samples"
    ):
        Split.by_ids(TRAIN, copied(list(range(40))), ["s1"], validation=0.5, validation_from="test")
    with pytest.warns(
        UserWarning, match="30 test samples are exact copies of training samples that are kept: TA and MIA"
    ):
        assert Split.by_class(TRAIN, copied(list(range(40))), 1, validation=0)


def test_one_copy_is_named_in_the_singular():
    with pytest.warns(UserWarning, match="1 test sample is an exact copy of training samples"):
        split = Split.by_class(TRAIN, copied([0]), 1, validation=0)
    assert split.copies.sentences[-1].startswith("1 test sample is an exact copy")
