"""A project folder: requests in order, one lock, and the old or the new state after a kill."""

import json
import os
import shutil
import stat
import subprocess
import sys

import numpy as np
import pytest
import torch

from expunge import Classification, ExpungeError, Project, Retrain, Session, Split, execute
from expunge.cli.app import main
from expunge.projects import project as project_module
from expunge.projects.settings import FILE, as_toml, checked, read_settings
from expunge.projects.state import locked, read_state
from expunge.receipts.ledger import Ledger
from expunge.records.record import Record
from expunge.records.request_file import read_requests

QUICK = ["--set", "epochs=2", "--set", "lr=0.05", "--set", "batch_size=64"]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Digits with made-up persons as an archive, and a trained model."""
    from sklearn.datasets import load_digits

    folder = tmp_path_factory.mktemp("made")
    digits = load_digits()
    x = (digits.images[:800].astype(np.float32) / 16)[:, None]
    persons = np.array([f"Doe, {i % 40}" for i in range(600)])
    np.savez(
        folder / "digits.npz", x_train=x[:600], y_train=digits.target[:600], x_test=x[600:], y_test=digits.target[600:800],
        ids=np.array([f"d{i}" for i in range(600)]), person=persons,
    )  # fmt: skip
    data = f"npz:{folder / 'digits.npz'}"
    recipe = ["--epochs", "10", "--lr", "0.1", "--batch-size", "64", "--validation", "0"]
    out = str(folder / "mine.pt")
    assert main(["train", "--data", data, "--model", "mlp", "--out", out, *recipe]) == 0
    return folder, data


def init(made, folder, *more):
    source, data = made
    command = ["init", str(folder), "--data", data, "--model", "mlp", "--checkpoint", str(source / "mine.pt")]
    return main([*command, "--method", "random_label", *QUICK, *more])


@pytest.fixture
def project(made, tmp_path):
    assert init(made, tmp_path / "p") == 0
    return tmp_path / "p"


@pytest.fixture(scope="module")
def sequence(made, tmp_path_factory):
    """Ten requests: ids, a class, persons, two that overlap, and three answered together."""
    folder = tmp_path_factory.mktemp("sequence") / "p"
    assert init(made, folder) == 0
    opened = Project(folder)
    opened.forget(ids=[f"d{i}" for i in range(20)], subject="a")
    opened.forget(classes=[3], subject="b")
    opened.forget(group=("person", ["Doe, 7"]), subject="c")
    opened.forget(ids=[f"d{i}" for i in range(10, 30)], subject="d")
    opened.forget(group=("person", ["Doe, 8", "Doe, 9"]), subject="e")
    opened.forget(ids=["d100"], subject="f")
    opened.forget(classes=["8"], subject="g")
    for name in ("h", "i", "j"):
        opened.add(ids=[f"d{ord(name) + k}" for k in range(0, 40, 20)], subject=name)
    opened.forget_pending()
    return folder


def test_ten_requests_stay_honoured(sequence):
    state = read_state(sequence)
    assert [r.status for r in state.requests] == ["answered"] * 10 and all(r.attached for r in state.requests)
    assert len(state.models) == 9 and state.models[-1] == "0008.pt"
    assert [r.model for r in state.requests[-3:]] == ["0008"] * 3
    assert all(r.now["UA"] == 100 for r in state.requests if r.kind == "class")
    assert not any(r.now.get("came_back") for r in state.requests)
    last = Record.load(sequence / "models/0008.json")
    assert len(last.details["earlier_requests"]) == 7 and len(last.details["answered"]) == 3
    assert len(read_requests(sequence / "models/0008.requests.json")) == 10
    # nothing that was forgotten is in the last retain set
    forgotten = {i for r in read_requests(sequence / "models/0008.requests.json") for i in r.ids}
    assert last.split["sizes"]["retain"] == 600 - len(forgotten)


def test_the_ledger_has_every_request_with_a_proof(sequence):
    requests = Ledger(sequence / "ledger.db").requests()
    assert [r.subject for r in requests] == list("abcdefghij")
    assert all(r.receipt and r.proved and r.run for r in requests)
    assert main(["ledger", "check", str(sequence / "ledger.db")]) == 0


def test_status_and_report_show_the_sequence(sequence, capsys):
    assert main(["status", "--project", str(sequence)]) == 0
    told = capsys.readouterr().out
    assert "10 requests, latest model 0008.pt" in told and "person" in told
    text = (sequence / "report.html").read_text()
    assert "Requests in order" in text and "after request 8" in text


def test_private_files_are_private(sequence):
    for name in ("state.json", "models/0008.requests.json", "models/0008.secret.json"):
        assert stat.S_IMODE((sequence / name).stat().st_mode) == 0o600, name


def test_a_request_on_the_command_line(project, tmp_path, capsys):
    (tmp_path / "ids.txt").write_text("d1\nd2\nd3\n")
    forget = ["forget", "--project", str(project), "--subject", "case 1", "--due", "2099-01-31"]
    before = sorted(p.relative_to(project) for p in project.rglob("*") if p.name != ".lock")
    state = (project / "state.json").read_bytes()
    assert main([*forget, "--ids", str(tmp_path / "ids.txt"), "--dry-run"]) == 0
    plan = capsys.readouterr().out
    assert "3 samples, by random_label" in plan and "10 timed steps" in plan and "MiB free" in plan
    assert sorted(p.relative_to(project) for p in project.rglob("*") if p.name != ".lock") == before
    assert (project / "state.json").read_bytes() == state, "a dry run changes nothing"
    assert main([*forget, "--ids", str(tmp_path / "ids.txt")]) == 0
    assert main(["forget", "--project", str(project), "--group", "person=Doe, 7"]) == 0
    assert main(["forget", "--project", str(project), "--classes", "4", "--later"]) == 0
    assert "request 3 waits: class 4" in capsys.readouterr().out
    assert main(["forget", "--project", str(project), "--pending"]) == 0
    assert main(["forget", "--project", str(project), "--pending"]) == 0
    assert "no request waits" in capsys.readouterr().out
    opened = Project(project)
    assert [len(r.values) for r in opened.requests] == [3, 1, 1] and opened.requests[0].due == "2099-01-31"
    assert "3 requests, 0 waiting" in repr(opened)


def test_a_csv_file_is_one_request_per_subject(project, tmp_path, capsys):
    table = tmp_path / "requests.csv"
    table.write_text("id,subject,due\nd1,x,2099-01-01\nd2,y,2099-01-02\nd3,x,2099-01-01\n")
    assert main(["forget", "--project", str(project), "--csv", str(table)]) == 0
    first, second = Project(project).requests
    assert (first.subject, first.values, first.due) == ("x", ("d1", "d3"), "2099-01-01")
    assert (second.subject, second.values) == ("y", ("d2",)) and first.model == second.model == "0001"
    table.write_text("id,subject,extra\nd1,x\n,y,z\n")
    assert main(["forget", "--project", str(project), "--csv", str(table)]) == 2
    told = capsys.readouterr().err
    assert "unknown columns extra" in told and "row 2" in told and "row 3: the id is empty" in told


def test_an_overdue_request_and_one_that_came_back_end_with_1(project, capsys):
    opened = Project(project)
    opened.add(ids=["d5"], due="2099-01-01")
    assert main(["status", "--project", str(project)]) == 0
    values = json.loads((project / "state.json").read_text())
    values["requests"][0]["due"] = "2020-01-01"
    (project / "state.json").write_text(json.dumps(values))
    assert main(["status", "--project", str(project)]) == 1 and "overdue" in capsys.readouterr().out
    values["requests"][0] |= {
        "due": "2099-01-01",
        "now": {"UA": 0.0, "MIA": 0.0, "came_back": True},
        "scores": {"UA": 90.0},
    }
    (project / "state.json").write_text(json.dumps(values))
    assert main(["status", "--project", str(project)]) == 1 and "came back" in capsys.readouterr().out


# ---- settings


def test_all_problems_of_the_flags_are_told_at_once(made, tmp_path, capsys):
    folder = tmp_path / "bad"
    wrong = [
        "--data",
        "nothing:x",
        "--model",
        "nonsense",
        "--method",
        "random_label",
        "--set",
        "lr=-1",
        "--recipe",
        "epoch=3",
    ]
    checkpoint = ["--checkpoint", str(made[0] / "mine.pt"), "--compute", "amp=half"]
    assert main(["init", str(folder), *wrong, *checkpoint]) == 2
    told = capsys.readouterr().err
    for words in ("[model] data", "[model] model", "[method]", "[recipe]", "[compute]"):
        assert words in told, words
    assert not folder.exists()


def test_a_checkpoint_of_another_model_leaves_no_folder(made, tmp_path, capsys):
    torch.save({"weight": torch.zeros(3)}, tmp_path / "other.pt")
    command = ["init", str(tmp_path / "p"), "--data", made[1], "--model", "mlp"]
    assert main([*command, "--checkpoint", str(tmp_path / "other.pt")]) == 2
    assert not (tmp_path / "p").exists() and "other.pt" in capsys.readouterr().err


def test_settings_survive_the_file(project):
    settings = read_settings(project)
    assert settings.method.settings == {"epochs": 2, "lr": 0.05, "batch_size": 64}
    assert as_toml(settings) == (project / FILE).read_text()
    every = {f"{t}.{k}" for t, values in settings.model_dump().items() for k in values}
    text = (project / FILE).read_text()
    assert all(k.partition(".")[2] in text for k in every)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model": {"data": 3}}, ["model.data is 3", "model.checkpoint is missing"]),
        ({"extra": {}, "method": {"seed": "x"}}, ["extra is unknown", "method.seed"]),
        ({"split": {"validation": 1.5}}, ["split.validation is 1.5"]),
    ],
)
def test_a_wrong_file_lists_every_problem(made, change, words):
    good = {"model": {"data": made[1], "model": "mlp", "checkpoint": "x"}}
    with pytest.raises(ExpungeError) as caught:
        checked({**good, **change}, FILE)
    assert all(word in str(caught.value) for word in words)


# ---- what cannot be done changes nothing


def test_a_wrong_request_changes_nothing(project, capsys):
    state = (project / "state.json").read_bytes()
    for more in (["--classes", "77"], ["--group", "person=Nobody"], ["--group", "person"], []):
        assert main(["forget", "--project", str(project), *more]) == 2
    assert (project / "state.json").read_bytes() == state and not (project / "ledger.db").exists()
    assert main(["status", "--project", str(project.parent)]) == 2
    assert "is no project" in capsys.readouterr().err


def test_a_run_that_changes_nothing_leaves_the_request_waiting(made, tmp_path):
    assert init(made, tmp_path / "p", "--set", "clip=0.0000001", "--set", "weight_decay=0") == 0
    text = (tmp_path / "p" / FILE).read_text()
    (tmp_path / "p" / FILE).write_text(text.replace("lr = 0.05", "lr = 1e-30"))
    opened = Project(tmp_path / "p")
    with pytest.raises(ExpungeError, match="the request waits"):
        opened.forget(ids=["d1"])
    assert [r.status for r in opened.requests] == ["waiting"] and opened.state.models == ("0000.pt",)
    assert sorted(p.name for p in (tmp_path / "p/models").iterdir()) == ["0000.pt"]


def test_a_second_command_is_refused_or_waits(project):
    with locked(project):
        with pytest.raises(ExpungeError, match="another command works in"):
            Project(project).add(ids=["d1"])
        code = f"from expunge import Project; Project({str(project)!r}).add(ids=['d1'])"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert "another command works in" in done.stderr
    assert Project(project, wait=5).add(ids=["d1"]).number == 1


def killed_at(stop, folder):
    """Answer a request in a child process that dies at its `stop`-th rename. Return its exit code and the renames."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        count, replace = 0, os.replace

        def counted(*args):
            nonlocal count
            count += 1
            if count == stop:
                os._exit(9)
            return replace(*args)

        os.replace = counted
        code = 1
        try:
            Project(folder).forget(ids=["d1", "d2"], subject="x")
            os.write(writing, str(count).encode())
            code = 0
        finally:
            os._exit(code)
    os.close(writing)
    _, status = os.waitpid(child, 0)
    with os.fdopen(reading) as file:
        return os.waitstatus_to_exitcode(status), file.read()


def test_a_kill_at_any_write_leaves_the_old_or_the_new_state(project, tmp_path):
    total, kills = None, 0
    for stop in range(1, 40):
        folder = tmp_path / f"killed{stop}"
        shutil.copytree(project, folder)
        code, renames = killed_at(stop, folder)
        if code == 0:
            total = int(renames)
            break
        assert code == 9
        kills += 1
        opened = Project(folder)
        state = opened.state
        named = {name.partition(".")[0] for name in state.models}
        assert all((folder / "models" / name).exists() for name in state.models)
        waiting = [r for r in state.requests if r.status == "waiting"]
        assert len(state.requests) <= 1 and len(state.models) == 1 + sum(
            r.status == "answered" for r in state.requests
        )
        # the next command goes on from there, and removes what was left
        if waiting:
            opened.forget_pending()
        elif not state.requests:
            opened.forget(ids=["d1", "d2"], subject="x")
        else:
            opened.forget_pending()
        (request,) = opened.requests
        assert request.status == "answered" and request.attached
        named = {name.partition(".")[0] for name in opened.state.models}
        assert {p.name.partition(".")[0] for p in (folder / "models").iterdir()} == named
        assert not [p for p in folder.rglob("*") if p.name.startswith((".new-",)) or p.name.endswith(".part")]
        entries = [r for r in Ledger(folder / "ledger.db").requests() if r.status != "withdrawn"]
        assert len(entries) == 1 and entries[0].proved
    assert total is not None and kills == total >= 8


# ---- without a folder


def test_a_session_keeps_requests_without_a_folder(tmp_path):
    from sklearn.datasets import load_digits

    digits = load_digits()
    x, y = torch.from_numpy(digits.images).float()[:, None] / 16, torch.from_numpy(digits.target)
    train, test, task = (x[:600], y[:600]), (x[600:800], y[600:800]), Classification(10)
    torch.manual_seed(0)
    net = torch.nn.Sequential(
        torch.nn.Flatten(), torch.nn.Linear(64, 48), torch.nn.ReLU(), torch.nn.Linear(48, 10)
    )
    split = Split.random(*train_test(train, test), validation=0)
    net = execute(net, split.for_original, Retrain(epochs=10, lr=0.1, batch_size=64), task).model
    from expunge.methods.random_label import RandomLabel

    session = Session(net, train, test, task, method=RandomLabel(epochs=2, lr=0.05, batch_size=64))
    session.forget(classes=[3])
    outcome = session.forget(ids=list(range(10)))
    (first,) = outcome.audit.details["earlier_requests"]
    assert first["UA"] == 100 and not first["came_back"] and first["UA_then"] == 100
    assert len(session.requests) == 2 and session.original is net
    assert "Requests in order" in session.report(tmp_path / "r.html").read_text()
    with pytest.raises(ExpungeError, match="2 of ids, classes and group are given"):
        session.forget(ids=[1], classes=[2])
    with pytest.raises(ExpungeError, match="0 of ids"):
        session.forget()


def train_test(train, test):
    return train, test


def test_the_ledger_number_is_kept_apart(project, monkeypatch):
    """A command that was killed between ledger and state left an entry: it is withdrawn, and the request entered again."""

    def killed(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(project_module, "write_state", killed)
    with pytest.raises(KeyboardInterrupt):
        Project(project).add(ids=["d1"], subject="x")
    monkeypatch.undo()
    request = Project(project).add(ids=["d1"], subject="x")
    assert (request.number, request.ledger) == (1, 2)
    assert [r.status for r in Ledger(project / "ledger.db").requests()] == ["withdrawn", "open"]
    assert os.path.exists(project / "state.json")
