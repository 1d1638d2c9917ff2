"""A project folder: requests in order, a plan that changes nothing, kills that leave the old or the new state."""

import importlib
import json
import os
import re
import shutil

import pytest
import torch
from safetensors.torch import save_file

from dying import dies_at
from expunge import Project, Session, TensorData
from expunge.cli import main
from expunge.data.past_requests import remember_requests, requests_of
from expunge.errors import ExpungeError
from expunge.models import build
from expunge.projects.answered import Setting
from expunge.projects.folder import Folder
from expunge.projects.prepared import prepare
from expunge.projects.request_scores import apply_audit
from expunge.projects.settings import checked
from expunge.projects.wanted import Wanted, _without_classes, wanted
from expunge.receipts.ledger import Ledger
from expunge.receipts.verify import verify
from expunge.training.registry import find
from project_office import VALUES, content, edit

# ---- requests in order


def test_ten_requests_stay_honoured(project):
    requests = [
        wanted(ids=[f"p{k}" for k in range(10)], subject="case 1"),
        wanted(classes=3),
        wanted(group="user=Doe, u9"),
        wanted(ids=[f"p{k}" for k in range(5, 15)]),
        wanted(classes=["7"]),
        wanted(ids=["p100", "p101"]),
        wanted(group="user=Doe, u20"),
        wanted(ids=["p200"]),
        wanted(ids=["p101", "p102"]),
        wanted(group="user=Doe, u30"),
    ]
    forgotten: set[int] = set()
    for number, request in enumerate(requests, 1):
        found = project.answer([request])
        split = found.outcome.run.split
        forgotten |= set(split.forget.index.tolist())
        assert not forgotten & set(split.retain.index.tolist())
        assert len(found.earlier) == number - 1 and len(requests_of(found.model)) == number
    assert len(found.outcome.run.split.forget) == 8
    # the model on disk knows them all, and the classes are still unknown to it
    model = project.model
    assert [r.request for r in requests_of(model)] == [r.request for r in project.status().requests]
    assert {e["request"]: e["UA"] for e in found.earlier}[project.status().requests[1].request] > 95
    ledger = Ledger(project.path / "ledger.db")
    assert all(c.ok for c in ledger.check()) and len(ledger.requests()) == 10
    assert all(r.receipt and r.proved for r in ledger.requests())
    assert ledger.requests()[0].subject == "case 1"
    for k in range(2, 11):
        parent = project.path / f"models/{k - 1:04d}.receipt.json"
        checks = verify(
            project.path / f"models/{k:04d}.receipt.json",
            model=project.path / f"models/{k:04d}.safetensors",
            record=project.path / f"models/{k:04d}.json",
            parent=parent,
        )
        assert all(c.ok for c in checks)
    assert "p100" not in (project.path / "state.json").read_text()
    project.accept()


def test_pending_requests_share_one_run_and_keep_their_own_entries(project):
    project.register([wanted(ids=["p1", "p2", "p3"], due="2026-12-01"), wanted(classes=4)])
    before = project.status()
    assert [r.state for r in before.requests] == ["waiting"] * 2 and before.model == "models/0000.pt"
    assert Ledger(project.path / "ledger.db").request(1).due == "2026-12-01"
    found = project.answer([wanted(ids=["p3", "p5"])], pending=True)
    assert [len(s.forget) for s in found.splits][0::2] == [3, 2]
    after = project.status()
    assert [r.state for r in after.requests] == ["done"] * 3 and {r.run for r in after.requests} == {1}
    assert after.requests[1].then["UA"] > 90
    # each is a request of its own: asked alone, its hash is the one that is remembered
    own = [
        prepare(project.folder, print).setting.draw(w).request
        for w in (wanted(ids=["p1", "p2", "p3"]), wanted(classes=4))
    ]
    assert [r.request for r in requests_of(project.model)][:2] == own
    with pytest.raises(ExpungeError, match="no request waits"):
        project.answer(pending=True)


def test_a_request_that_came_back_is_reopened_and_can_be_answered_again(project):
    project.forget(classes=3)
    (entry,) = project.status().requests
    entries = [{"request": entry.request, "UA": 1.0, "MIA": 2.0, "came_back": True, "reason": "it came back"}]
    assert apply_audit([entry], entries, 1) == [entry] and entry.state == "came back"
    assert entry.drift["UA"] == 1.0 - entry.then["UA"]
    # a model that remembers nothing learns the class again: give the project such a model
    edit(project, lambda s: s.update(requests=[entry.to_dict()]), sealed=True)
    Ledger(project.path / "ledger.db").attach(1, status="open", note="it came back")
    assert project.status().exit_code == 1
    project.answer(pending=True)
    assert project.status().exit_code == 0 and project.status().requests[0].run == 2


def test_exit_code_1_if_an_earlier_request_came_back(project, monkeypatch, capsys):
    project.forget(classes=3)
    # `expunge.audit` is a function, so the module is found by its full name
    module = importlib.import_module("expunge.audit.earlier_requests")
    monkeypatch.setattr(module, "_better_than_chance", lambda *a: [0])
    monkeypatch.setattr(module, "_reason", lambda *a: "it came back")
    words = ["forget", "--project", str(project.path), "--class", "5"]
    assert main(words) == 1
    assert Ledger(project.path / "ledger.db").request(1).status == "open"
    assert main(["status", "--project", str(project.path)]) == 1
    assert "request 1 came back: it came back" in capsys.readouterr().err


def test_status_counts_overdue_requests(project):
    project.register([wanted(ids=["p1"], due="2026-12-01")])
    status = ["status", "--project", str(project.path), "--today"]
    assert main([*status, "2026-12-01"]) == 0 and main([*status, "2026-12-02"]) == 1


def test_exact_copies_of_forgotten_samples_are_planned_and_forgotten(classifier):
    data, test = classifier.by_class.forget.data, classifier.by_class.test.data
    twice = TensorData(torch.cat([data.x, data.x[:2]]), torch.cat([data.labels, data.labels[:2]]))
    for copies, count in ((None, 2), ("ignore", 1)):
        setting = Setting(train=twice, test=test, task=classifier.task, method=find("salun")(), copies=copies)
        first, second = (setting.draw(wanted(ids=[k])) for k in (0, 1))
        assert len(first.forget) == count and bool(first.copies.sentences) == (copies is None)
        assert len(setting.union([first, second]).forget) == 2 * count


# ---- refusals change nothing


def test_wrong_requests_change_nothing(project):
    before = content(project.path)
    for request in (
        wanted(ids=["nobody"]),
        wanted(classes="none"),
        wanted(group="user"),
        wanted(),
        Wanted(ids=("p1",), classes=("3",)),
    ):
        with pytest.raises(ExpungeError):
            project.answer([request])
    with pytest.raises(ExpungeError, match="not a day"):
        project.answer([wanted(ids=["p1"], due="soon")])
    assert content(project.path) == before


def test_a_dry_run_changes_no_file(project, tmp_path, capsys):
    before = content(project.path)
    (tmp_path / "ids.txt").write_text("p1\np2\n")
    assert (
        main(["forget", "--project", str(project.path), "--ids", str(tmp_path / "ids.txt"), "--dry-run"]) == 0
    )
    out = capsys.readouterr().out
    for words in (
        "1 (2 samples)",
        "method: salun",
        "estimated seconds",
        "disk space",
        "retraining",
        "copies",
    ):
        assert words in out
    assert content(project.path) == before and not (project.path / ".lock").exists()
    plan = project.plan([wanted(ids=["p1", "p2"]), wanted(ids=["p2", "p3"])])
    assert (plan.samples, plan.forget, plan.retain) == ([2, 2], 3, 397)
    # a step for the forget set and seven for the retain set, four times
    assert (
        plan.steps == 4 * 8
        and plan.seconds[1] >= plan.seconds[0] > 0
        and plan.trials == (1, 1)
        and plan.retrain_seconds > 0
    )


def test_all_problems_of_init_are_shown_at_once(tmp_path, capsys):
    words = ["--data", "digitz", "--model", "nope", "--checkpoint", str(tmp_path / "no.pt"), "--days", "-1"]
    code = main(["init", str(tmp_path / "new"), *words, "--settings", "epoch=3", "--max-gap", "2"])
    err = capsys.readouterr().err
    assert code == 2 and not (tmp_path / "new").exists()
    for words in ("digitz", "'nope'", "no.pt", "days is -1", "'epoch' is no setting of salun", "max_gap"):
        assert words in err


def test_all_problems_of_the_file_are_shown_at_once():
    with pytest.raises(ExpungeError) as caught:
        checked({"modle": "cnn", "seed": "x", "data": "digits", "model": "cnn", "method": "salunn"})
    text = str(caught.value)
    assert (
        "'modle' is no entry; known: compute, copies, data" in text
        and "seed is 'x'" in text
        and "salunn" in text
    )
    assert checked({"data": "digits", "model": "cnn"}).method == "salun"


def test_a_checkpoint_of_another_model_is_refused(office, tmp_path):
    with pytest.raises(ExpungeError, match=r"checkpoint: .*lacks"):
        Project.create(tmp_path / "new", checked({**VALUES, "model": "cnn"}), office / "mine.pt")
    assert not list(tmp_path.iterdir())


def test_every_entry_of_the_file_is_a_flag_and_survives_the_file():
    import tomllib
    from dataclasses import fields

    from expunge.cli.project import InitFlags
    from expunge.projects.settings import ProjectSettings

    assert {f.name for f in fields(InitFlags)} == set(ProjectSettings.model_fields)
    settings = checked(
        {**VALUES, "data": "digits", "recipe": {"epochs": 2}, "measures": ["ToW"], "reference": True}
    )
    assert checked(tomllib.loads(settings.to_toml())) == settings


def test_a_changed_model_is_refused(project):
    (project.path / "models/0000.pt").write_bytes(b"other")
    with pytest.raises(ExpungeError, match="was changed"):
        project.forget(ids=["p1"])


# ---- two commands at once, and kills


def test_a_second_command_is_refused_and_a_dead_one_does_not_block(project):
    with project.folder.locked(), pytest.raises(ExpungeError, match=f"process {os.getpid()}"):
        project.forget(ids=["p1"])
    (project.path / ".lock").write_text("999999")
    with project.folder.locked():
        pass


def killed(path, name, at):
    """Run a request in a child process that dies at the call `at` of `os.NAME`. Return whether it died."""
    return dies_at(name, at, lambda: Project(path).forget(ids=["p1", "p2"])) != 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the child process is a fork")
@pytest.mark.parametrize(
    "name",
    ["link", *(pytest.param(name, marks=pytest.mark.slow) for name in ("replace", "fsync"))],
)
def test_a_kill_leaves_the_old_or_the_new_state(office, tmp_path, name):
    old = content(office / "project")
    outcomes = []
    for at in range(1, 60):
        path = tmp_path / str(at)
        shutil.copytree(office / "project", path)
        died = killed(path, name, at)
        with Folder(path).locked():
            pass
        state = Folder(path).state()
        if len(state["models"]) == 1:
            assert content(path) == old
        else:
            expected = {"0001.safetensors", "0001.json", "0001.receipt.json", "0001.requests.json"}
            assert expected <= {f.name for f in (path / "models").iterdir()}
            assert (path / "report.html").exists() and Ledger(path / "ledger.db").request(1).receipt
            assert not list(path.glob(".work-*")) and len(requests_of(Project(path).model)) == 1
        outcomes.append(len(state["models"]))
        if not died:
            break
    assert not died and set(outcomes) == {1, 2} and outcomes == sorted(outcomes)


# ---- a checkpoint that is a folder


def test_init_takes_the_model_file_of_a_folder(office, tmp_path):
    """As `save_pretrained` writes it."""
    state = torch.load(office / "mine.pt", weights_only=True)
    folder = tmp_path / "saved"
    folder.mkdir()
    save_file(state, folder / "model.safetensors")
    project = Project.create(tmp_path / "project", checked(VALUES), folder)
    assert (project.path / "models/0000.safetensors").read_bytes() == (
        folder / "model.safetensors"
    ).read_bytes()
    assert all(torch.equal(t, state[name]) for name, t in project.model.state_dict().items())
    # in several files, it is refused before anything is made
    names = sorted(state)
    parts = {"model-00001-of-00002.safetensors": names[:1], "model-00002-of-00002.safetensors": names[1:]}
    (folder / "model.safetensors").unlink()
    for file, kept in parts.items():
        save_file({name: state[name] for name in kept}, folder / file)
    index = {"weight_map": {name: file for file, kept in parts.items() for name in kept}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ExpungeError, match=r"saved holds its parameters in 2 files .*max_shard_size"):
        Project.create(tmp_path / "other", checked(VALUES), folder)
    assert not (tmp_path / "other").exists()


# ---- without a folder


def test_a_session_answers_requests_in_memory(classifier, tmp_path):
    digits = (classifier.by_class.forget.data, classifier.by_class.test.data)
    session = Session(
        classifier.model, digits, classifier.task, find("salun")(epochs=2, lr=0.03, batch_size=64)
    )
    first = session.forget(classes=3)
    assert first.scores["UA"] > 90 and requests_of(classifier.model) == ()
    second = session.forget(ids=range(5))
    assert len(second.earlier) == 1 and len(session.requests) == 2
    assert "<!doctype html>" in session.report(tmp_path / "report.html").read_text().lower()
    before = session.model
    with pytest.raises(ExpungeError):
        session.forget(ids=["nobody"])
    assert session.model is before


def test_a_run_that_changes_nothing_answers_nothing(classifier):
    digits = (classifier.by_class.forget.data, classifier.by_class.test.data)
    session = Session(
        classifier.model,
        digits,
        classifier.task,
        find("finetune")(epochs=1, lr=0.0, weight_decay=0.0, batch_norm="freeze"),
    )
    with pytest.warns(RuntimeWarning), pytest.raises(ExpungeError, match="answers no request"):
        session.forget(ids=range(5))
    assert session.requests == ()


def test_a_union_of_mixed_requests_keeps_their_goals(classifier):
    data, test = classifier.by_class.forget.data, classifier.by_class.test.data
    setting = Setting(train=data, test=test, task=classifier.task, method=find("salun")())
    splits = [setting.draw(wanted(classes=3)), setting.draw(wanted(ids=range(4)))]
    union = setting.union(splits)
    assert set(union.forget.index.tolist()) == {*splits[0].forget.index.tolist(), 0, 1, 2, 3}
    assert union.goal == "unlearn" and union.forget_classes == (3,)
    # a model that was retrained without a class does not recognise it, so its test samples leave the test set
    of_class = (test.labels == 3).nonzero()[:, 0].tolist()
    assert len(of_class) and union.test_forgotten.index.tolist() == of_class
    assert union.test.index.tolist() == sorted({*range(len(test))} - {*of_class})
    alone = splits[0]
    assert union.validation.index.tolist() == [k for k in alone.validation.index.tolist() if k > 3]
    assert union.retain.index.tolist() == [k for k in alone.retain.index.tolist() if k > 3]
    untrain = setting.union([setting.draw(wanted(classes=3, goal="untrain")), splits[1]])
    assert untrain.goal == "untrain" and untrain.test_forgotten.index.tolist() == of_class
    only_ids = setting.union([splits[1], setting.draw(wanted(ids=[9]))])
    assert not len(only_ids.test_forgotten) and len(only_ids.test) == len(test)
    with pytest.raises(ExpungeError, match="leave no test samples of other classes"):
        _without_classes(only_ids, range(10))
    both = setting.union([splits[0], setting.draw(wanted(classes=5))])
    assert both.scenario == "class" and both.forget_classes == (3, 5)
    remembered = remember_requests(
        build("mlp", num_classes=10, shape=(1, 8, 8)), [splits[0].as_request("salun")]
    )
    assert len(requests_of(remembered)) == 1 and re.match("PastRequest", repr(requests_of(remembered)[0]))


def test_one_id_is_one_id_and_arrays_are_ids():
    """ids="12" named the samples 1 and 2, and arrays raised raw errors."""
    import numpy as np
    import torch

    from expunge.projects.wanted import wanted

    assert wanted(ids="12").ids == ("12",) and wanted(ids=5).ids == ("5",)
    assert wanted(ids=np.arange(3)).ids == wanted(ids=torch.arange(3)).ids == ("0", "1", "2")
    assert wanted(classes=np.array([3])).classes == ("3",) and wanted(classes="cat").classes == ("cat",)
