"""Requests one after the other on the command line: none is undone, and none is hidden."""

import json
import stat

import numpy as np
import pytest

from expunge.cli.app import main
from expunge.receipts.receipt import Receipt
from expunge.records.checkpoint import read_checkpoint, write_checkpoint
from expunge.records.checkpoint_requests import answered_requests, key_of, public_requests
from expunge.records.keyed import keyed
from expunge.records.record import Record
from expunge.records.request_file import read_requests

DIGITS = ["--data", "digits", "--model", "mlp"]
METHOD = ["--trials", "0", "--epochs", "4", "--lr", "0.05", "--batch-size", "64"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sequence")
    recipe = ["--epochs", "12", "--lr", "0.05", "--batch-size", "64"]
    assert main(["train", *DIGITS, "--out", str(folder / "m0.safetensors"), *recipe]) == 0
    for number, first in ((1, 0), (2, 60)):
        (folder / f"ids{number}.txt").write_text("\n".join(map(str, range(first, first + 60))))
    return folder


def unlearn(folder, before, after, *forget, method="random_label", more=()):
    files = ["--checkpoint", str(folder / before), "--out", str(folder / after)]
    return main(["unlearn", method, *DIGITS, *files, *forget, *METHOD, *more])


@pytest.fixture(scope="module")
def sequence(folder):
    """Class 3, then 60 ids, then 60 other ids."""
    assert unlearn(folder, "m0.safetensors", "m1.safetensors", "--forget-class", "3") == 0
    assert unlearn(folder, "m1.safetensors", "m2.safetensors", "--forget-ids", str(folder / "ids1.txt")) == 0
    assert unlearn(folder, "m2.safetensors", "m3.safetensors", "--forget-ids", str(folder / "ids2.txt")) == 0
    return folder


def test_a_later_request_does_not_undo_the_first(sequence):
    """Before, the accuracy on unseen threes went 100 -> 0 -> 100 %."""
    for number in (2, 3):
        record = Record.load(sequence / f"m{number}.json")
        first = record.details["earlier_requests"][0]
        assert first["UA"] == 100 and not first["came_back"] and first["UA_change"] == 0
        assert record.split["removed"] > 0 and len(record.split["earlier"]) == number - 1
        assert len(record.details["earlier"]) == number - 1


def test_checkpoint_record_and_receipt_know_the_earlier_requests(sequence):
    receipts = [Receipt.load(sequence / f"m{k}.receipt.json") for k in (1, 2, 3)]
    requests = read_requests(sequence / "m3.requests.json")
    assert [r.receipt for r in requests] == [r.id for r in receipts]
    assert [r.commitment for r in requests] == [r.statement["forget_commitment"] for r in receipts]
    assert requests[1].ids == tuple(map(str, range(60))) and len(requests[0].ids) > 100
    third = receipts[2].statement
    assert third["parent"] == receipts[1].id
    assert [e["receipt"] for e in third["earlier"]] == [r.id for r in receipts[:2]]
    assert [e["forget_count"] for e in third["earlier"]] == [len(requests[0].ids), 60]
    assert "earlier" not in receipts[0].statement
    third = read_checkpoint(sequence / "m3.safetensors")
    listed, key = public_requests(third), key_of(third)
    assert [e["request"] for e in listed] == [keyed(key, "request", r.request) for r in requests]
    # the ids stay in the house: the request file is private, the checkpoint has none of them
    assert stat.S_IMODE((sequence / "m3.requests.json").stat().st_mode) == 0o600
    metadata = read_checkpoint(sequence / "m3.safetensors").metadata
    assert not any('"ids": [' in text for text in metadata.values())


def test_the_first_request_can_be_audited_on_the_last_model(sequence, tmp_path, capsys):
    """Before: "made for another split (X) than this one (X)"."""
    out = tmp_path / "audit.json"
    command = ["audit", *DIGITS, "--checkpoint", str(sequence / "m3.safetensors"), "--out", str(out)]
    assert main([*command, "--original", str(sequence / "m0.safetensors"), "--forget-class", "3"]) == 0
    record = Record.load(out)
    assert record.scores["UA"] == 100 and len(record.details["earlier_requests"]) == 2
    assert "other requests of this model" in capsys.readouterr().out


def test_one_reference_serves_all_requests_of_a_sequence(sequence, tmp_path):
    gold = str(tmp_path / "gold.safetensors")
    third = ["--forget-ids", str(sequence / "ids2.txt")]
    command = ["train", *DIGITS, "--without-forget", *third, "--out", gold, "--epochs", "2"]
    assert main([*command, "--history", str(sequence / "m2.requests.json")]) == 0
    audit = ["audit", *DIGITS, "--checkpoint", str(sequence / "m3.safetensors"), "--retrained", gold]
    for before, forget in (("m2", third), ("m0", ["--forget-class", "3"])):
        assert main([*audit, "--original", str(sequence / f"{before}.safetensors"), *forget]) in (0, 1)
    # without the history it would have seen what was forgotten before
    assert main([*command[:-4], "--out", gold, "--epochs", "1"]) == 0
    assert main([*audit, "--original", str(sequence / "m2.safetensors"), *third]) == 2


def test_a_checkpoint_without_its_request_file_is_refused(sequence, tmp_path, capsys):
    moved = tmp_path / "m2.safetensors"
    moved.write_bytes((sequence / "m2.safetensors").read_bytes())
    ids = ["--forget-ids", str(sequence / "ids2.txt")]
    assert unlearn(tmp_path, "m2.safetensors", "m3.safetensors", *ids) == 2
    assert "m2.requests.json with their ids is missing" in capsys.readouterr().err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m2.safetensors"]
    history = ["--history", str(sequence / "m2.requests.json")]
    assert unlearn(tmp_path, "m2.safetensors", "m3.safetensors", *ids, more=history) == 0
    # a request for a whole class needs no file
    moved = tmp_path / "m1.safetensors"
    moved.write_bytes((sequence / "m1.safetensors").read_bytes())
    assert [r.classes for r in answered_requests(read_checkpoint(moved))] == [(3,)]
    assert unlearn(tmp_path, "m1.safetensors", "m4.safetensors", *ids) == 0


def test_a_request_that_came_back_ends_with_exit_code_1(folder, tmp_path, capsys):
    """A model that never forgot class 3 is given a history that says it did."""
    history = tmp_path / "m0.requests.json"
    # without metadata: that of an original says that it has seen the class
    write_checkpoint(tmp_path / "m0.safetensors", read_checkpoint(folder / "m0.safetensors").state)
    assert unlearn(folder, "m0.safetensors", "c.safetensors", "--forget-class", "3") == 0
    values = json.loads((folder / "c.requests.json").read_text())
    history.write_text(json.dumps(values))
    ids = ["--forget-ids", str(folder / "ids1.txt"), "--history", str(history)]
    assert (
        unlearn(tmp_path, "m0.safetensors", "m1.safetensors", *ids, "--no-rehearse", method="gradient_ascent")
        == 1
    )
    told = capsys.readouterr()
    assert "came back" in told.out and "request 1" in told.err
    said = "taken as answered because you say so: 1 (class, "
    assert f"m0.safetensors does not list these requests of m0.requests.json, and they are {said}" in told.err
    assert Record.load(tmp_path / "m1.json").details["earlier_requests"][0]["came_back"]


def test_a_request_file_without_its_ids_is_refused(sequence, tmp_path, capsys):
    """Emptied ids would bring the samples back into the retain set."""
    (tmp_path / "m2.safetensors").write_bytes((sequence / "m2.safetensors").read_bytes())
    values = json.loads((sequence / "m2.requests.json").read_text())
    values["requests"][1]["ids"] = values["requests"][1]["ids"][:-1]
    (tmp_path / "m2.requests.json").write_text(json.dumps(values))
    assert (
        unlearn(tmp_path, "m2.safetensors", "m3.safetensors", "--forget-ids", str(sequence / "ids2.txt")) == 2
    )
    assert "has 59 ids for a request of 60 samples" in capsys.readouterr().err
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "cannot be read"),
        ('{"format": "x"}', "no file of requests"),
        ('{"format": "expunge-requests/v1", "requests": [1, {"ids": [3]}]}', "request 1 is no table"),
    ],
)
def test_a_broken_request_file_is_refused_and_nothing_changes(folder, tmp_path, capsys, text, words):
    history = tmp_path / "x.requests.json"
    history.write_text(text)
    (tmp_path / "m0.safetensors").write_bytes((folder / "m0.safetensors").read_bytes())
    ids = ["--forget-ids", str(folder / "ids1.txt"), "--history", str(history)]
    assert unlearn(tmp_path, "m0.safetensors", "m1.safetensors", *ids) == 2
    assert words in capsys.readouterr().err
    assert history.read_text() == text and len(list(tmp_path.iterdir())) == 2


def test_a_text_file_of_ids_is_a_history(folder, tmp_path):
    """For a model that another tool has changed."""
    (tmp_path / "m0.safetensors").write_bytes((folder / "m0.safetensors").read_bytes())
    ids = ["--forget-ids", str(folder / "ids2.txt"), "--history", str(folder / "ids1.txt")]
    assert unlearn(tmp_path, "m0.safetensors", "m1.safetensors", *ids) in (0, 1)
    assert Record.load(tmp_path / "m1.json").details["earlier_requests"][0]["samples"] == 60


def test_a_text_file_adds_to_what_the_model_has_answered(sequence, tmp_path):
    """It replaced the model's own requests, and their samples went back into the retain set."""
    (tmp_path / "more.txt").write_text("300\n301\n")
    more = ["--forget-ids", str(sequence / "ids2.txt"), "--history", str(tmp_path / "more.txt")]
    out = str(tmp_path / "m3.safetensors")
    files = ["--checkpoint", str(sequence / "m2.safetensors"), "--out", out]
    assert main(["unlearn", "random_label", *DIGITS, *files, *more, *METHOD]) in (0, 1)
    assert [len(r.ids) for r in read_requests(tmp_path / "m3.requests.json")][1:] == [60, 2, 60]


def test_a_copy_without_metadata_uses_the_request_file_beside_it(sequence, tmp_path):
    import torch

    state = read_checkpoint(sequence / "m2.safetensors").state
    torch.save(dict(state), tmp_path / "m2.pt")
    (tmp_path / "m2.requests.json").write_bytes((sequence / "m2.requests.json").read_bytes())
    assert len(answered_requests(read_checkpoint(tmp_path / "m2.pt"))) == 2


def test_a_comma_belongs_to_the_value_of_a_group(tmp_path, monkeypatch):
    """Before, --forget-group "user=Doe, Jane" forgot the users "Doe" and " Jane"."""
    monkeypatch.chdir(tmp_path)
    users = np.array(["Doe, Jane", "Doe", " Jane", "Roe"] * 30)
    y = np.repeat(np.arange(3), 40)
    x = np.random.default_rng(0).normal(size=(120, 5)).astype(np.float32)
    np.savez("mine.npz", x_train=x, y_train=y, user=users, x_test=x[::4], y_test=y[::4])
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "own_net.py").write_text(
        "import torch\ndef net(num_classes, shape):\n    return torch.nn.Linear(shape[0], num_classes)\n"
    )
    own = ["--data", "npz:mine.npz", "--model", "own_net:net", "--validation", "0"]
    assert main(["train", *own, "--out", "o.pt", "--epochs", "1"]) == 0
    forget = ["--forget-group", "user=Doe, Jane", "--forget-group", "user=Roe", *METHOD]
    assert main(["unlearn", "finetune", *own, "--checkpoint", "o.pt", "--out", "u.pt", *forget]) == 0
    (request,) = read_requests("u.requests.json")
    assert {users[int(i)] for i in request.ids} == {"Doe, Jane", "Roe"} and len(request.ids) == 60
    # names of people are in no checkpoint
    assert not any("Doe" in text for text in read_checkpoint(tmp_path / "u.pt").metadata.values())


# ---- who has the file, and who has another one


def test_an_auditor_without_the_request_file_is_told_what_was_not_checked(sequence, tmp_path, capsys):
    """The second request is one of ids, and only the key would tell that it is the one that is audited."""
    (tmp_path / "m2.safetensors").write_bytes((sequence / "m2.safetensors").read_bytes())
    audit = ["audit", *DIGITS, "--original", str(sequence / "m1.safetensors"), "--checkpoint"]
    moved = [*audit, str(tmp_path / "m2.safetensors")]
    first, other = (["--forget-ids", str(sequence / f"ids{k}.txt")] for k in (1, 2))
    said = "m2.requests.json with their key is not there, so it was not checked that the model was made for this forget set"
    for forget in (first, other):
        assert main([*moved, *forget]) in (0, 1)
        assert said in capsys.readouterr().err
    # the owner's file settles it
    assert main([*audit, str(sequence / "m2.safetensors"), *first]) in (0, 1)
    assert "not checked" not in capsys.readouterr().err
    history = ["--history", str(sequence / "m2.requests.json")]
    assert main([*moved, *other, *history]) == 2
    assert "made for another split" in capsys.readouterr().err
    # a share of the samples, or another number of them, needs no key to be refused
    (tmp_path / "few.txt").write_text("0\n1\n")
    assert main([*moved, "--forget-ids", str(tmp_path / "few.txt")]) == 2
    # nothing is trained on trust
    assert unlearn(tmp_path, "m2.safetensors", "m3.safetensors", *first) == 2
    assert "m2.requests.json with their ids is missing" in capsys.readouterr().err


def test_a_history_of_another_model_is_refused_with_an_original(sequence, tmp_path, capsys):
    (tmp_path / "m0.safetensors").write_bytes((sequence / "m0.safetensors").read_bytes())
    ids = ["--forget-ids", str(sequence / "ids2.txt"), "--history", str(sequence / "m2.requests.json")]
    assert unlearn(tmp_path, "m0.safetensors", "m1.safetensors", *ids) == 2
    assert "m2.requests.json is not the history of" in capsys.readouterr().err
    office = ["init", str(tmp_path / "office"), *DIGITS, "--checkpoint", str(tmp_path / "m0.safetensors")]
    assert main([*office, "--history", str(sequence / "m2.requests.json")]) == 2
    assert "m2.requests.json is not the history of" in capsys.readouterr().err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m0.safetensors"]
    # the control: with the model that it was written with
    office[office.index("--checkpoint") + 1] = str(sequence / "m2.safetensors")
    assert main([*office, "--history", str(sequence / "m2.requests.json")]) == 0
