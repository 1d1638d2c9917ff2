"""Splits: the sets that are drawn, what the hashes depend on, and every refusal."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from expunge import Split, SplitError, TensorData


def data(n=200, k=5, ids=None, groups=None, seed=0, classes=None):
    g = torch.Generator().manual_seed(seed)
    return TensorData(
        torch.randint(0, 256, (n, 1, 4, 4), generator=g, dtype=torch.uint8),
        torch.arange(n) % k,
        ids=ids,
        groups=groups,
        classes=classes,
    )


@pytest.fixture
def pair():
    return data(), data(60, seed=1)


def is_partition(split, n):
    sets = [split.forget, split.retain, split.validation, split.withheld]
    positions = torch.cat([s.index for s in sets])
    return len(positions) == n and len(positions.unique()) == n


@settings(max_examples=25, deadline=None)
@given(share=st.floats(0.05, 0.9), validation=st.sampled_from([0.0, 0.1, 0.3]), seed=st.integers(0, 5))
def test_random_split_is_a_partition_of_the_requested_size(share, validation, seed):
    split = Split.random(data(), data(60, seed=1), share, validation=validation, seed=seed)
    assert is_partition(split, 200)
    assert len(split.forget) == round(share * (200 - len(split.validation)))
    assert len(split.validation) == round(200 * validation)


def test_class_split_leaves_the_class_out_of_the_test_set(pair):
    split = Split.by_class(*pair, forget=[3, 1])
    assert split.forget_classes == (1, 3) and is_partition(split, 200)
    assert set(split.forget.labels.tolist()) == {1, 3}
    assert not set(split.retain.labels.tolist()) & {1, 3}
    assert not set(split.test.labels.tolist()) & {1, 3}
    assert set(split.test_forgotten.labels.tolist()) == {1, 3}


def test_part_of_a_class_is_withheld_or_retained_by_goal(pair):
    unlearn = Split.by_class(*pair, forget=2, share=0.25)
    untrain = Split.by_class(*pair, forget=2, share=0.25, goal="untrain")
    assert len(unlearn.forget) == len(untrain.forget) == 9
    assert len(unlearn.withheld) == 27 and 2 not in unlearn.retain.labels and unlearn.forget_classes == (2,)
    assert len(untrain.withheld) == 0 and 2 in untrain.retain.labels and 2 in untrain.test.labels
    assert unlearn.train_hash == untrain.train_hash


def test_the_original_is_the_same_for_every_forget_set(pair):
    hashes = {
        s.train_hash
        for s in (
            Split.by_class(*pair, forget=0),
            Split.random(*pair, 0.2),
            Split.by_ids(*pair, _trained_on(pair)),
        )
    }
    assert len(hashes) == 1
    assert Split.random(*pair, 0.2, seed=1).train_hash not in hashes


def _trained_on(pair):
    return Split.random(*pair, 0.1).retain.ids[:3]


def test_hash_depends_on_content_and_positions(pair):
    first = Split.random(*pair, 0.2)
    assert first.hash == Split.random(data(), data(60, seed=1), 0.2).hash
    assert first.hash != Split.random(*pair, 0.2, seed=3).hash
    other = data()
    other.x[0, 0, 0, 0] ^= 1
    assert first.hash != Split.random(other, pair[1], 0.2).hash


def test_ids_from_list_file_and_column(pair, tmp_path):
    named = data(ids=[f"u{i}" for i in range(200)], groups={"site": np.arange(200) // 50})
    split = Split.by_ids(named, pair[1], ["u7", "u9"], validation=0)
    assert split.forget.ids == ["u7", "u9"]
    (tmp_path / "ids.txt").write_text("u9\n\nu7\n")
    assert Split.by_ids(named, pair[1], tmp_path / "ids.txt", validation=0).hash == split.hash
    group = Split.by_group(named, pair[1], "site", np.int64(2), validation=0)
    assert group.forget.index.tolist() == list(range(100, 150))


def test_ids_of_variable_width_are_found_however_long(pair):
    """Image folders have such ids. A search in sorted ids fails on texts over 15 bytes."""
    names = np.array(
        [f"train/a folder of some length/{i}.png" for i in range(200)], dtype=np.dtypes.StringDType()
    )
    split = Split.by_ids(data(ids=names), pair[1], names[[7, 120]].tolist(), validation=0)
    assert split.forget.index.tolist() == [7, 120] and split.forget.ids == names[[7, 120]].tolist()
    with pytest.raises(SplitError, match="is unknown"):
        Split.by_ids(data(ids=names), pair[1], ["train/a folder of some length/7"], validation=0)


def test_one_error_lists_all_wrong_ids(pair):
    named = data(ids=["a", "a"] + [f"u{i}" for i in range(2, 200)])
    with pytest.raises(SplitError) as caught:
        Split.by_ids(named, pair[1], ["u3", "u3", "zz", "a"], validation=0)
    assert len(caught.value.problems) == 3


def test_ids_in_the_test_set_have_their_own_message():
    """A model trained elsewhere may have seen what a source without a test set holds out."""
    train, test = (data(n, ids=[f"{p}{i}" for i in range(n)]) for p, n in (("a", 200), ("b", 60)))
    with pytest.raises(SplitError) as caught:
        Split.by_ids(train, test, ["a1", "b4", "zz", "b2"], validation=0)
    unknown, in_test = caught.value.problems
    assert "1 id, 'zz', is unknown" in unknown
    assert "each lies in the test set" in in_test and "test=FILE" in in_test and "['b4', 'b2']" in in_test


@pytest.mark.parametrize(
    ("draw", "words"),
    [
        (
            lambda a, b: Split.by_class(a, b, forget=[7, "cat", 1, 1]),
            ["there is no class 7", "named 'cat'", "given twice"],
        ),
        (lambda a, b: Split.by_class(a, b, forget=[]), ["no class to forget is given"]),
        (
            lambda a, b: Split.by_class(a, b, forget=[0, 1, 2, 3, 4]),
            ["retain set is empty", "only forgotten classes"],
        ),
        (lambda a, b: Split.random(a, b, 1.0), ["to forget everything"]),
        (lambda a, b: Split.random(a, b, 0.0), ["the share is 0.0; give a share above 0"]),
        (lambda a, b: Split.random(a, b, count=1000), ["1000 samples cannot be drawn"]),
        (lambda a, b: Split.random(a, a, 0.1), ["same object"]),
        (
            lambda a, b: Split.by_class(a, b, forget=1, share=1.5),
            ["is 1.5; give a share above 0 and at most 1"],
        ),
        (
            lambda a, b: Split.random(a, b, 0.1, validation=1.5, goal="unlern"),
            ["validation is 1.5; give the share", "goal is 'unlern'", "untrain or unlearn"],
        ),
        (lambda a, b: Split.by_ids(a, b, []), ["forget set is empty"]),
        (lambda a, b: Split.by_ids(a, b, "no-such-file"), ["is no file"]),
        (lambda a, b: Split.by_group(a, b, "site", 1), ["no group column"]),
        (lambda a, b: Split.random(a, data(20, 9), 0.1), ["out of range"]),
        (
            lambda a, b: Split.random(TensorData(torch.zeros(0, 1), torch.zeros(0, dtype=torch.long)), b),
            ["training set is empty"],
        ),
        (
            lambda a, b: Split.random(TensorData(torch.zeros(3, 1), torch.tensor([0, -1, 1])), b),
            ["labels below 0"],
        ),
    ],
)
def test_refused_requests(pair, draw, words):
    with pytest.raises(SplitError) as caught:
        draw(*pair)
    for word in words:
        assert word in str(caught.value)


def test_ids_that_are_unicode_forms_of_another_are_refused():
    """A receipt would say that both are forgotten."""
    names = [str(i) for i in range(200)]
    one, two, kelvin = "\u00e9", "e\u0301", "\u212a"
    train, test = data(ids=[one, two, kelvin, *names[3:]]), data(50, ids=[f"t{i}" for i in range(49)] + ["K"])
    for ids in ([one], [two], [one, two], [kelvin]):
        with pytest.raises(SplitError, match=r"Unicode forms of \d ids? to forget \(first: .* and '"):
            Split.by_ids(train, test, ids, copies="ignore")
    with pytest.raises(SplitError, match="give these samples ids that differ in more"):
        Split.by_class(train, test, int(train.labels[0]))
    # the control: other samples of this data, and one form alone
    Split.by_ids(train, test, ["7"], copies="ignore")
    Split.by_ids(data(ids=[two, *names[1:]]), test, [one], copies="ignore")


def test_shared_ids_of_forget_and_test_are_refused():
    train, test = (
        data(ids=[f"u{i}" for i in range(200)]),
        data(60, ids=[f"u{i + 195}" for i in range(60)], seed=1),
    )
    with pytest.raises(SplitError, match="in the training set and in the test set"):
        Split.by_ids(train, test, ["u196", "u3"], validation=0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.int64])
def test_inputs_of_any_type_can_be_split(dtype):
    x = torch.arange(40).to(dtype)
    for shape in ((40,), (40, 1, 1)):
        train, test = (x[:30], torch.arange(30) % 3), (x[30:], torch.arange(10) % 3)
        both = [(part.view(-1, *shape[1:]), y) for part, y in (train, test)]
        assert len(Split.random(*both, 0.2, validation=0).forget) == 6


def test_copies_in_the_test_set_raise_a_warning(pair):
    test = data(60, seed=1)
    test.x[5] = pair[0].x[7]
    with pytest.warns(UserWarning, match="byte for byte"):
        Split.by_ids(pair[0], test, [7], validation=0)


def test_class_by_name(pair):
    named = data(classes=["ant", "bee", "cat", "dog", "eel"])
    assert Split.by_class(named, pair[1], forget="cat").forget_classes == (2,)
    for number in (2, "2", np.int64(2), np.array([2])):
        assert Split.by_class(named, pair[1], forget=number).forget_classes == (2,)
    with pytest.raises(SplitError, match=r"no class named '--1'.*\n.*there is no class -1"):
        Split.by_class(named, pair[1], forget=["--1", "-1"])
