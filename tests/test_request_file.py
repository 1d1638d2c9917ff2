"""The private request file beside a checkpoint: every wrong value is named with its file and entry."""

import json
from dataclasses import replace

import pytest
import torch

from expunge.data.past_requests import PastRequest, remember_requests, requests_of
from expunge.errors import CheckpointError
from expunge.records.checkpoint import read_checkpoint, write_checkpoint
from expunge.records.checkpoint_requests import answered_requests, public_requests
from expunge.records.request_file import read_requests, write_requests

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
