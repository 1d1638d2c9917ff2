"""The private request file beside a checkpoint: every wrong value is named with its file and entry."""

import hashlib
import hmac
import json
from dataclasses import replace

import pytest
import torch

from expunge import Retrain, Split, TensorData
from expunge.data.past_requests import PastRequest, remember_requests, requests_of
from expunge.errors import CheckpointError
from expunge.methods.salun import SalUn
from expunge.records.checkpoint import read_checkpoint, write_checkpoint
from expunge.records.checkpoint_metadata import check_audited, check_retrained, metadata_for
from expunge.records.checkpoint_requests import answered_requests, key_of, public_requests
from expunge.records.history_checks import check_history
from expunge.records.keyed import agrees, keyed, new_key, public_entries, with_key
from expunge.records.request_file import read_key, read_requests, write_requests

FIRST = PastRequest("a" * 64, "ids", "untrain", ("p1", "p2"), scores={"UA": 5.0, "MIA": 60.0})
SECOND = PastRequest("b" * 64, "class", "unlearn", ("p3",), classes=(3,))


def changed(path, entry, **values):
    """Write a file of two good requests, then change values of one entry."""
    write_requests(path, [FIRST, SECOND])
    content = json.loads(path.read_text())
    content["requests"][entry - 1] |= values
    path.write_text(json.dumps(content))
    return path


def test_a_good_file_is_read_as_it_was_written(tmp_path):
    requests = [FIRST, replace(SECOND, scores={"UA": 97, "MIA": None})]
    assert read_requests(write_requests(tmp_path / "m.requests.json", requests)) == requests


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"goal": "forget"}, "has the goal 'forget'; allowed are untrain and unlearn"),
        ({"goal": 3}, "wrong or missing goal"),
        ({"goal": None, "ids": 5}, "wrong or missing goal, ids"),
        ({"classes": [-1]}, "wrong or missing classes"),
        ({"classes": [True]}, "wrong or missing classes"),
        ({"classes": ["3"]}, "wrong or missing classes"),
        ({"ids": ["p1", 2]}, "wrong or missing ids"),
        ({"scores": {"UA": "high"}}, "wrong or missing scores"),
        ({"scores": {"UA": [1]}}, "wrong or missing scores"),
        ({"scores": {"UA": 120}}, "wrong or missing scores"),
        ({"scores": [5.0]}, "wrong or missing scores"),
        ({"request": ""}, "wrong or missing request"),
    ],
)
@pytest.mark.parametrize("entry", [1, 2])
def test_a_wrong_value_is_named_with_file_and_entry(tmp_path, values, words, entry):
    path = changed(tmp_path / "m.requests.json", entry, **values)
    with pytest.raises(CheckpointError) as caught:
        read_requests(path)
    (problem,) = caught.value.problems
    assert problem.startswith(f"{path}: request {entry} has ") and words in problem


def test_all_entries_with_problems_are_named(tmp_path):
    path = changed(tmp_path / "m.requests.json", 1, goal="x")
    content = json.loads(path.read_text())
    content["requests"][1]["scores"] = {"MIA": "1"}
    path.write_text(json.dumps(content))
    with pytest.raises(CheckpointError) as caught:
        read_requests(path)
    assert [text.split(" has ")[0] for text in caught.value.problems] == [
        f"{path}: request 1",
        f"{path}: request 2",
    ]


def checkpoint(folder, listed):
    path = folder / "m.safetensors"
    write_checkpoint(path, {"w": torch.zeros(2)}, metadata={"requests": json.dumps(listed)})
    return read_checkpoint(path)


@pytest.mark.parametrize(
    "values", [{"goal": "unlearn"}, {"classes": [4]}, {"goal": "untrain", "classes": []}]
)
def test_goal_and_classes_must_be_those_that_the_checkpoint_lists(tmp_path, values):
    """A request whose classes are emptied would bring the class back into the retain set."""
    made = checkpoint(tmp_path, [FIRST.public(), SECOND.public()])
    entry = 1 if values == {"goal": "unlearn"} else 2
    changed(tmp_path / "m.requests.json", entry, **values)
    with pytest.raises(CheckpointError, match=rf"request {entry} has (goal|classes) .* has answered it with"):
        answered_requests(made)
    write_requests(tmp_path / "m.requests.json", [FIRST, SECOND])
    assert answered_requests(made) == [FIRST, SECOND]


@pytest.mark.parametrize("wrong", [{"goal": "x"}, {"classes": 3}, {"classes": ["a"]}, {"count": "2"}])
def test_wrong_requests_in_the_metadata_are_refused(tmp_path, wrong):
    made = checkpoint(tmp_path, [{**SECOND.public(), **wrong}])
    with pytest.raises(CheckpointError, match="wrong list of requests in its metadata"):
        public_requests(made)


# ---- a model inside another module


def test_a_model_inside_the_users_own_module_keeps_its_requests():
    inner, other = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)
    remember_requests(inner, [FIRST, SECOND])
    outer = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.ModuleDict({"backbone": inner, "other": other}))
    assert requests_of(outer) == (FIRST, SECOND)
    assert requests_of(other) == () and requests_of(torch.nn.Sequential(other)) == ()
    # two parts with a common request
    third = replace(FIRST, request="c" * 64)
    remember_requests(other, [SECOND, third])
    assert requests_of(outer) == (FIRST, SECOND, third)
    # what the whole model has answered comes first, with its own scores
    own = replace(SECOND, scores={"UA": 1.0})
    remember_requests(outer, [own])
    assert requests_of(outer) == (own, FIRST, third)


# ---- the key of the hashes in the metadata

KEY, OTHER_KEY = b"k" * 32, b"o" * 32


def keyed_checkpoint(folder, requests=(FIRST, SECOND), key=KEY, **metadata):
    """Write `m.safetensors`, whose metadata names requests by keyed hashes, and read it."""
    texts = with_key({"kind": "unlearn", **metadata, "requests": public_entries(requests, None)}, key)
    return read_checkpoint(write_checkpoint(folder / "m.safetensors", {"w": torch.zeros(2)}, metadata=texts))


def test_keyed_hashes_by_hand():
    """RFC 2104 over the context, the name of the entry and the value, separated by zero bytes."""
    expected = hmac.new(KEY, b"expunge-metadata/v1\0request\0" + b"a" * 64, hashlib.sha256).hexdigest()
    assert keyed(KEY, "request", "a" * 64) == f"hmac-sha256:{expected}"
    stored = keyed(KEY, "request", "a" * 64)
    assert agrees(stored, "a" * 64, "request", KEY) is True
    assert agrees(stored, "b" * 64, "request", KEY) is False
    assert agrees(stored, "a" * 64, "request", OTHER_KEY) is False
    assert agrees(stored, "a" * 64, "split_hash", KEY) is False
    assert agrees(stored, "a" * 64, "request", None) is None
    # plain hashes of earlier versions need no key
    assert agrees("a" * 64, "a" * 64, "request", None) is True
    assert agrees("b" * 64, "a" * 64, "request", KEY) is False
    assert keyed(KEY, "split_hash", "") == "" and agrees("", "a" * 64, "split_hash", KEY) is False


def test_keys_are_random_and_every_file_has_its_own():
    assert len({new_key() for _ in range(20)}) == 20 and all(len(new_key()) == 32 for _ in range(3))


def test_a_file_with_its_key_is_checked(tmp_path):
    made = keyed_checkpoint(tmp_path)
    path = write_requests(tmp_path / "m.requests.json", [FIRST, SECOND], KEY)
    assert read_key(path) == key_of(made) == KEY and answered_requests(made) == [FIRST, SECOND]
    write_requests(path, [FIRST], KEY)
    with pytest.raises(CheckpointError, match="lacks 1 of the 2 requests"):
        answered_requests(made)
    write_requests(path, [replace(FIRST, ids=("p1",)), SECOND], KEY)
    with pytest.raises(CheckpointError, match="has 1 ids for a request of 2 samples"):
        answered_requests(made)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda c: c.update(key=OTHER_KEY.hex()), "has another key than .*m.safetensors was written with"),
        (lambda c: c.pop("key"), "has a wrong or missing key: it is 64 hex digits"),
        (lambda c: c.update(key=KEY.hex()[:-2]), "has a wrong or missing key"),
        (lambda c: c.update(key=KEY.hex() + "00"), "has a wrong or missing key"),
        (lambda c: c.update(key=5), "has a wrong or missing key"),
        (lambda c: c.update(key="x" * 64), "has a wrong or missing key"),
        (lambda c: c.update(key=""), "lacks the key of the hashes in .*m.safetensors"),
        (lambda c: c.update(format="expunge-requests/v1"), "lacks the key of the hashes in .*m.safetensors"),
        (lambda c: c.update(format="expunge-requests/v3"), "is no file of requests in the format"),
    ],
)
def test_a_wrong_key_is_an_error_that_names_the_file(tmp_path, change, words):
    made = keyed_checkpoint(tmp_path)
    path = write_requests(tmp_path / "m.requests.json", [FIRST, SECOND], KEY)
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match=words) as caught:
        answered_requests(made)
    assert str(path) in str(caught.value)


def test_files_and_checkpoints_of_earlier_versions_are_read_and_checked(tmp_path):
    made = checkpoint(tmp_path, [FIRST.public(), SECOND.public()])
    path = write_requests(tmp_path / "m.requests.json", [FIRST, SECOND])
    content = json.loads(path.read_text())
    assert content.pop("key") == ""
    path.write_text(json.dumps({**content, "format": "expunge-requests/v1"}))
    assert key_of(made) is None and read_key(path) is None and answered_requests(made) == [FIRST, SECOND]
    path.write_text(json.dumps({"format": "expunge-requests/v1", "requests": content["requests"][:1]}))
    with pytest.raises(CheckpointError, match="lacks 1 of the 2 requests"):
        answered_requests(made)
    # a key that plain hashes do not need harms nothing
    assert answered_requests(made, write_requests(tmp_path / "x.json", [FIRST, SECOND], KEY)) == [
        FIRST,
        SECOND,
    ]


def test_the_key_may_be_in_a_later_file_that_lies_beside_the_checkpoint(tmp_path):
    """`--history` names the ids, and the file beside the checkpoint has its key."""
    made = keyed_checkpoint(tmp_path)
    later = write_requests(tmp_path / "later.requests.json", [FIRST, SECOND], OTHER_KEY)
    with pytest.raises(CheckpointError, match=r"later.requests.json has another key"):
        answered_requests(made, later)
    write_requests(tmp_path / "m.requests.json", [FIRST, SECOND], KEY)
    assert answered_requests(made, later) == [FIRST, SECOND]


def test_a_request_for_a_class_needs_no_key(tmp_path):
    """Its hash stays unknown in later files, and its class says which one it is."""
    made = keyed_checkpoint(tmp_path, [SECOND])
    (known,) = answered_requests(made)
    assert known.classes == (3,) and known.request.startswith("key lost:")
    again = keyed_checkpoint(tmp_path, [known, FIRST], OTHER_KEY)
    assert public_requests(again)[0]["request"] == known.request
    write_requests(tmp_path / "m.requests.json", [known, FIRST], OTHER_KEY)
    assert answered_requests(again) == [known, FIRST]
    labels = torch.arange(40) % 4
    data = (torch.rand(40, 2), labels), (torch.rand(8, 2), torch.arange(8) % 4)
    split = Split.by_class(*data, 3, validation=0)
    # the request of today's split gets its own hash, so that it is no earlier one
    assert answered_requests(again, current=split)[0].request == split.request
    assert answered_requests(again, current=Split.by_class(*data, 2, validation=0))[0] == known
    # beside the model that it was made from, its file has no key
    made = keyed_checkpoint(tmp_path, [SECOND])
    write_requests(tmp_path / "m.requests.json", [known])
    assert key_of(made) is None and [r.classes for r in answered_requests(made)] == [(3,)]


# ---- a history that is not of this model


def samples(count=12):
    data = TensorData(torch.rand(count, 2), torch.arange(count) % 2, ids=[f"p{k}" for k in range(count)])
    return Split.by_ids(data, (torch.rand(4, 2), torch.arange(4) % 2), ["p9"], validation=0, copies="ignore")


def original(folder, split, **metadata):
    texts = metadata_for("original", split, Retrain(), 0, key=KEY) | metadata
    assert "key_id" not in texts and len(texts["train_hash"]) == 64
    return read_checkpoint(write_checkpoint(folder / "m.safetensors", {"w": torch.zeros(2)}, metadata=texts))


def test_a_history_of_another_model_is_refused_with_an_original(tmp_path):
    split = samples()
    made = original(tmp_path, split)
    history = write_requests(tmp_path / "other.requests.json", [FIRST], KEY)
    answered = answered_requests(made, history, split)
    with pytest.raises(
        CheckpointError, match=r"other.requests.json is not the history of .* trained on 2 of these samples"
    ):
        check_history(made, split, answered, history)
    # a file beside the original is no better
    beside = write_requests(tmp_path / "m.requests.json", [FIRST], KEY)
    with pytest.raises(CheckpointError, match=r"m.requests.json is not the history of"):
        check_history(made, split, answered_requests(made, None, split))
    beside.unlink()
    # samples that the data never had, or that nobody trained on, contradict nothing
    gone = [replace(FIRST, ids=("x1", "x2"))]
    assert "1 (ids, 2 samples)" in str(check_history(made, split, gone, history))
    # neither does a model that says nothing of its samples, or that another tool has changed
    assert "you say so: 1 (ids, 2 samples)" in str(
        check_history(original(tmp_path, split, kind="own"), split, answered, history)
    )
    assert "you say so" in str(
        check_history(original(tmp_path, split), split, answered, tmp_path / "ids.txt")
    )


def test_requests_that_the_metadata_lists_are_nobodys_word(tmp_path):
    split = samples()
    made = keyed_checkpoint(tmp_path)
    history = write_requests(tmp_path / "m.requests.json", [FIRST, SECOND], KEY)
    assert check_history(made, split, answered_requests(made, history), history) is None
    third = replace(FIRST, request="c" * 64)
    text = check_history(made, split, [FIRST, SECOND, third], history)
    assert text is not None and text.endswith("you say so: 3 (ids, 2 samples).")


# ---- checks without the key


def test_an_audit_without_the_key_is_not_blocked_and_says_what_it_did_not_check(tmp_path):
    split = samples()
    for role, check in (("unlearn", check_audited), ("retrain", check_retrained)):
        texts = metadata_for(role, split, SalUn(), 0, key=KEY)
        path = write_checkpoint(tmp_path / "m.safetensors", {"w": torch.zeros(2)}, metadata=texts)
        made = read_checkpoint(path)
        text = check(made, split)
        assert (
            text is not None and "m.requests.json with their key is not there, so it was not checked" in text
        )
        # another size of the forget set needs no key to be refused
        other = Split.by_ids(split.forget.data, split.test.data, ["p8", "p9"], validation=0, copies="ignore")
        with pytest.raises(CheckpointError, match="for another split"):
            check(made, other)
        # with the key, another id is too
        other = Split.by_ids(split.forget.data, split.test.data, ["p8"], validation=0, copies="ignore")
        assert "not checked" in str(check(made, other))
        write_requests(tmp_path / "m.requests.json", [split.as_request("salun")], KEY)
        assert check(made, split) is None
        with pytest.raises(CheckpointError, match="for another split"):
            check(made, other)
        (tmp_path / "m.requests.json").unlink()


def test_without_the_file_a_new_run_stops_and_an_audit_goes_on(tmp_path):
    split = samples()
    texts = metadata_for("unlearn", split, SalUn(), 0, key=KEY)
    made = read_checkpoint(
        write_checkpoint(tmp_path / "m.safetensors", {"w": torch.zeros(2)}, metadata=texts)
    )
    # only the key could tell that the request is the one of this split
    with pytest.raises(CheckpointError, match="with their ids is missing"):
        answered_requests(made, None, split)
    assert answered_requests(made, None, split, assume=True) == []
    other = Split.by_ids(split.forget.data, split.test.data, ["p8", "p9"], validation=0, copies="ignore")
    with pytest.raises(CheckpointError, match="with their ids is missing"):
        answered_requests(made, None, other, assume=True)
    with pytest.raises(CheckpointError, match="with their ids is missing"):
        answered_requests(
            keyed_checkpoint(tmp_path, [FIRST, split.as_request("salun")]), None, split, assume=True
        )
