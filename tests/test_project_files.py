"""A project refuses files that are missing, changed or wrong, and settings that no longer fit its requests."""

import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace

import pytest

from expunge import Project
from expunge.cli import main
from expunge.data.past_requests import requests_of
from expunge.errors import ExpungeError
from expunge.projects.settings import checked
from expunge.projects.wanted import wanted
from expunge.receipts.ledger import Ledger
from project_office import VALUES, content, edit, refused_by_all

# ---- missing and changed files


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("ledger.db", r"ledger.db is missing, and state.json lists 2 requests; restore it"),
        ("models/0002.requests.json", r"0002.requests.json with the ids of all answered requests is missing"),
        ("models/0002.safetensors", r"0002.safetensors, the latest model, is missing"),
    ],
)
def test_a_missing_file_is_named_and_never_made_anew(answered, name, words, capsys):
    (answered.path / name).unlink()
    refused_by_all(answered, words)
    assert not (answered.path / name).exists()
    status = answered.status()
    assert status.exit_code == 1 and len(status.requests) == 2 and len(status.problems) == 1
    assert main(["status", "--project", str(answered.path)]) == 1
    shown = capsys.readouterr()
    assert "case 2" in shown.out and f"error: {answered.path / name}" in shown.err


def test_a_good_project_has_no_problems(answered):
    assert answered.status().problems == () and answered.status().exit_code == 0


def test_another_ledger_is_refused_and_rows_added_by_hand_are_not(answered, tmp_path):
    book = Ledger(answered.path / "ledger.db")
    book.attach(1, status="done", note="letter sent")
    assert answered.status().problems == ()
    other = Ledger(tmp_path / "other.db", create=True)
    other.add("case 1")
    other.add("case 2")
    shutil.copy(tmp_path / "other.db", answered.path / "ledger.db")
    refused_by_all(answered, "is not the ledger of the 2 requests")
    assert answered.status().exit_code == 1


def test_a_ledger_from_before_the_last_request_is_refused_by_all(answered, tmp_path):
    earlier = tmp_path / "earlier"
    shutil.copytree(answered.path, earlier)
    answered.register([wanted(ids=["p9"])])
    shutil.copy(earlier / "ledger.db", answered.path / "ledger.db")
    refused_by_all(answered, "is not the ledger of the 3 requests")


def test_ids_swapped_at_equal_count_are_found(answered):
    """The later run would have trained on p1 again, and left out a stranger."""
    path = answered.path / "models/0002.requests.json"
    values = json.loads(path.read_text())
    assert values["requests"][0]["ids"] == ["p1", "p2"]
    values["requests"][0]["ids"] = ["p200", "p2"]
    path.write_text(json.dumps(values))
    refused_by_all(answered, "0002.requests.json with the ids of all answered requests was changed")
    assert answered.status().exit_code == 1


def test_a_project_of_an_earlier_version_goes_on_once_it_is_accepted(answered):
    """Its state has no seal, no hash of the request file, no head of the ledger and no settings of the first request."""

    def earlier(state):
        del state["ledger"], state["drawn"], state["seal"]
        for entry in state["models"]:
            del entry["requests"]

    edit(answered, earlier, sealed=False)
    refused_by_all(
        answered, "it has no seal, which earlier versions did not write; .*`expunge status --accept`"
    )
    assert main(["status", "--accept", "--project", str(answered.path)]) == 0
    assert answered.status().problems == ()
    answered.forget(ids=["p9"])
    state = answered.folder.state()
    assert state["ledger"] and state["drawn"]["validation"] == 0.0 and state["models"][-1]["requests"]


# ---- state.json


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda s: [s.pop("models"), s.pop("requests")],
            ["entry models is missing", "entry requests is missing"],
        ),
        (lambda s: s.update(models=[]), ["the entry models is wrong"]),
        (lambda s: s["models"][0].pop("sha256"), ["entry models.0.sha256 is missing"]),
        (lambda s: s["models"][0].update(file="../x.pt"), ["models.0.file is wrong .*inside the project"]),
        (lambda s: s.update(moves=[["a", "/etc/passwd"]]), ["moves.0.1 is wrong .*inside the project"]),
        (lambda s: s.update(moves=[["a"]]), ["the entry moves.0"]),
        (lambda s: s["requests"][0].update(due="soon"), ["requests.0.due is wrong"]),
        (
            lambda s: s["requests"][1].update(state="lost"),
            ["requests.1.state is wrong .*'waiting', 'done' or 'came back'"],
        ),
        (lambda s: s["requests"][1].pop("what"), ["requests.1.what is missing"]),
        (lambda s: s["requests"][1]["what"].pop("ids"), ["requests.1.what.ids is missing"]),
        (lambda s: s["requests"][1].update(now={"UA": "x"}), ["requests.1.now.UA is wrong"]),
        (lambda s: s["requests"][1].update(number=1), ["request 1 is there 2 times"]),
        (lambda s: s["requests"][1].update(run=9), ["request 2 names run 9, and the last one is run 2"]),
    ],
)
def test_a_wrong_state_is_refused_by_entry(answered, change, words):
    path = answered.path / "state.json"
    state = json.loads(path.read_text())
    change(state)
    path.write_text(json.dumps(state))
    for text in words:
        refused_by_all(answered, rf"state.json: .*{text}")
    with pytest.raises(ExpungeError, match=r"state\.json"):
        answered.status()


def test_a_bare_state_is_no_key_error(answered, capsys):
    (answered.path / "state.json").write_text('{"format": "expunge-project/v1"}')
    assert main(["status", "--project", str(answered.path)]) == 2
    err = capsys.readouterr().err
    assert "the entry models is missing" in err and "the entry requests is missing" in err


# ---- settings that no longer fit


@pytest.mark.parametrize(
    ("old", "new"), [("validation = 0.0", "validation = 0.2"), ("split_seed = 0", "split_seed = 4")]
)
def test_validation_and_its_seed_are_fixed_by_the_first_request(answered, project, old, new):
    for each in (answered, project):
        path = each.path / "expunge.toml"
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new))
    refused_by_all(
        answered, f"and the requests of this project were drawn with .*; write {old}, or begin a new project"
    )
    # before the first request they may still be corrected
    assert project.plan([wanted(ids=["p9"])]).forget == 1


def test_classes_in_another_order_are_refused_by_all(answered, monkeypatch):
    import office_data

    source = office_data.data()
    source = replace(source, classes=[*source.classes[1:], source.classes[0]])
    monkeypatch.setattr(office_data, "data", lambda: source)
    refused_by_all(answered, "the data has the classes .* Give data with these classes")


def test_a_removed_class_that_the_data_does_not_have_is_refused_by_all(answered):
    """A request file of an earlier version, whose hash is not known."""
    path = answered.path / "models/0002.requests.json"
    values = json.loads(path.read_text())
    values["requests"][1]["classes"] = [77]
    path.write_text(json.dumps(values))
    edit(answered, lambda s: s["models"][-1].pop("requests"), sealed=True)
    with pytest.raises(ExpungeError, match="request 2 has classes"):
        answered.forget(ids=["p9"])


# ---- folders that cannot be written, kills


def test_a_folder_that_cannot_be_written_is_an_error_and_status_still_works(answered, monkeypatch):
    """The tests may run as root, who may write everywhere."""
    original = os.open

    def read_only(path, flags, *rest, **more):
        if flags & os.O_RDWR and str(path).startswith(str(answered.path)):
            raise PermissionError(13, "Permission denied")
        return original(path, flags, *rest, **more)

    monkeypatch.setattr(os, "open", read_only)
    with pytest.raises(ExpungeError, match=r"cannot be written: Permission denied; give the user"):
        answered.forget(ids=["p9"])
    assert answered.status().exit_code == 0


def test_a_project_that_cannot_be_made_is_an_error(office, tmp_path, monkeypatch):
    def refuse(*args, **options):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tempfile.mkdtemp", refuse)
    with pytest.raises(ExpungeError, match="cannot be made: Permission denied; give another folder"):
        Project.create(tmp_path / "new", checked(VALUES), office / "mine.pt")
    assert not list(tmp_path.iterdir())


def test_the_next_command_removes_the_lock_file_of_a_killed_init(project):
    (project.path / ".making").touch()
    project.register([wanted(ids=["p1"])])
    assert not (project.path / ".making").exists()


@pytest.mark.slow  # processes that are killed; make torture kills many more
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="the system has no SIGKILL")
@pytest.mark.parametrize("pause", ["before", "after"])
def test_sigkill_around_the_commit(answered, office, pause, capsys):
    """`before` stops at the rename of state.json, `after` at the first move behind it."""
    script = f"""
import os, sys, time
sys.path.insert(0, {str(office)!r})
from expunge import Project
original = os.replace
def slow(source, target, *rest):
    committed = str(target).endswith("state.json")
    if committed and {pause == "before"} or not committed and "models" in str(target) and ".work-" not in str(target):
        print("here", flush=True)
        time.sleep(60)
    original(source, target, *rest)
os.replace = slow
Project({str(answered.path)!r}).forget(ids=["p9"])
"""
    before = content(answered.path)
    child = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert child.stdout.readline() == "here\n"
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdout.close()
    # what `expunge clean` would remove or bring to its place is listed, and stays for now
    assert main(["clean", str(answered.path), "--dry-run"]) == 0
    assert "change of a project: " in capsys.readouterr().out and list(answered.path.glob(".work-*"))
    # commands that take no lock work on the state that was committed
    assert answered.status().problems == ()
    assert len(requests_of(answered.model)) == (2 if pause == "before" else 3)
    assert main(["clean", str(answered.path)]) == 0 and not list(answered.path.glob(".work-*"))
    if pause == "before":
        assert content(answered.path) == before
    else:
        assert len(answered.status().requests) == 3 and not list(answered.path.glob(".work-*"))
        assert (answered.path / "models/0003.requests.json").exists()
