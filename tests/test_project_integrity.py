"""Swapped files of a project are found, also if `state.json` was forged to match them."""

import json
import os
import shutil
import sqlite3
import struct
from contextlib import closing

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from expunge import Project
from expunge.cli import main
from expunge.errors import MissingExtra
from expunge.models import build
from expunge.projects import file_checks
from expunge.projects import folder as folder_module
from expunge.projects.folder import Folder, sha256
from expunge.projects.run_checks import model_problems
from expunge.projects.settings import checked
from expunge.projects.wanted import wanted
from expunge.receipts.issue import issue
from expunge.receipts.keys import make_key
from expunge.receipts.ledger import Ledger
from expunge.receipts.receipt import Receipt
from expunge.receipts.signing import signed
from expunge.records.record import Record
from project_office import VALUES, content, edit, refused_by_all


def forge(project, change):
    edit(project, change, sealed=True)


def refused(project, words):
    """Every command refuses, `status` reports it, and no file changes."""
    before = content(project.path)
    refused_by_all(project, words)
    assert main(["status", "--project", str(project.path)]) == 1
    assert content(project.path) == before


def swap_model(project, number, of=None):
    """Replace a model by another one and write its hash into the state."""
    place = project.path / f"models/{number:04d}.safetensors"
    if of is not None:
        shutil.copy(of, place)
    else:
        state = load_file(place)
        name = next(iter(state))
        state[name] = state[name] + 1
        save_file(state, place, {"format": "pt"})
    forge(project, lambda s: s["models"][number].update(sha256=sha256(place)))
    return place


# ---- the latest model


def test_a_swapped_model_with_a_forged_state_is_refused(answered):
    assert answered.status().problems == (), "the control"
    swap_model(answered, 2)
    refused(answered, r"0002.safetensors is not the model of its receipt ul-.*restore it from a backup")


def test_an_earlier_model_in_place_of_the_latest_is_refused(answered):
    swap_model(answered, 2, of=answered.path / "models/0001.safetensors")
    refused(answered, "is not the model of its receipt")


@pytest.mark.parametrize("receipt", ["", "ul-AAAAAAAAAAAAAAAAAAAAAAAAAA"])
def test_a_state_without_the_receipt_is_refused(answered, receipt):
    swap_model(answered, 2)
    forge(answered, lambda s: s["models"][2].update(receipt=receipt))
    refused(answered, "0002.receipt.json is not the receipt of run 2 in state.json")


def test_a_receipt_that_the_ledger_does_not_know_is_refused(answered):
    place = swap_model(answered, 2)
    record = Record.load(answered.path / "models/0002.json")
    parent = answered.folder.state()["models"][1]["receipt"]
    before = answered.path / "models/0001.safetensors"
    receipt, _ = issue(record, ["p1"], before=before, after=place, parent=parent)
    receipt.save(answered.path / "models/0002.receipt.json")
    forge(answered, lambda s: s["models"][2].update(receipt=receipt.id))
    refused(answered, f"ledger.db does not know the receipt {receipt.id} of run 2")


def test_an_edited_receipt_is_refused(answered):
    path = answered.path / "models/0002.receipt.json"
    path.write_text(path.read_text().replace('"goal": "unlearn"', '"goal": "untrain"'))
    refused(answered, "0002.receipt.json, the receipt of run 2, is not valid")


def test_an_edited_row_of_the_ledger_is_refused(answered):
    with closing(sqlite3.connect(answered.path / "ledger.db", isolation_level=None)) as db:
        text = db.execute("SELECT sql FROM sqlite_master WHERE name = 'no_UPDATE'").fetchone()[0]
        db.execute("DROP TRIGGER no_UPDATE")
        db.execute("UPDATE events SET at = '2020-01-01T00:00:00+00:00' WHERE seq = 3")
        db.execute(text)
    refused(answered, r"ledger.db was changed: row 3 was changed; restore it from a backup")


def test_a_state_from_before_the_latest_run_is_refused(answered, tmp_path):
    """The head of the ledger that it names is genuine, and so are its model and receipt: the later deletion was lost."""
    earlier = tmp_path / "earlier"
    shutil.copytree(answered.path, earlier)
    answered.forget(ids=["p9"], subject="case 3")
    shutil.copy(earlier / "state.json", answered.path / "state.json")
    shutil.copy(earlier / "samples.npz", answered.path / "samples.npz")
    refused(answered, "knows no run after run 2: state.json is older than the models")
    for file in answered.path.glob("models/0003.*"):
        file.unlink()
    refused(answered, "state.json lacks request 3, which .*ledger.db has as a request of this project")
    (problem,) = model_problems(answered.folder, answered.folder.state())
    assert "0002.safetensors, so this is not the latest model; restore the latest state.json" in problem


def test_a_state_that_lists_no_run_is_refused(answered):
    place = answered.path / "models/0000.pt"
    tensors = {k: v + 1 for k, v in torch.load(place).items()}

    def empty(state):
        state.update(models=[{**state["models"][0], "sha256": sha256(place)}], requests=[])
        state.pop("drawn", None)

    forge(answered, empty)
    refused(answered, "knows no run after run 0")
    for file in answered.path.glob("models/000[12].*"):
        file.unlink()
    refused(answered, "lacks request 1")
    (problem,) = model_problems(answered.folder, answered.folder.state())
    assert "0000.pt, so this is not the latest model" in problem
    torch.save(tensors, place)
    forge(answered, empty)
    (problem,) = model_problems(answered.folder, answered.folder.state())
    assert "0000.pt is not a model of a run in" in problem and "state.json lists no run" in problem


def test_a_model_whose_names_begin_with_a_prefix_of_wrappers(office, tmp_path, monkeypatch):
    """Reading a file removes the prefix, and the receipt has it."""
    (tmp_path / "wrapped_model.py").write_text(
        "from torch import nn\nfrom expunge.models import build\n"
        "class Wrapped(nn.Module):\n"
        "    def __init__(self, num_classes, shape):\n"
        "        super().__init__()\n"
        "        self.module = build('mlp', num_classes=num_classes, shape=shape)\n"
        "    def forward(self, x):\n        return self.module(x)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    model = nn.Module()
    model.module = build("mlp", num_classes=10, shape=(1, 8, 8))
    model.module.load_state_dict(torch.load(office / "mine.pt"))
    torch.save(model.state_dict(), tmp_path / "wrapped.pt")
    settings = checked({**VALUES, "model": "wrapped_model:Wrapped"})
    project = Project.create(tmp_path / "project", settings, tmp_path / "wrapped.pt")
    project.forget(ids=["p1"])
    assert project.status().problems == ()
    swap_model(project, 1)
    refused(project, "is not the model of its receipt")


# ---- files of earlier runs


def secret_of(project, number):
    (path,) = project.path.glob(f"models/{number:04d}.ul-*.secret.json")
    return path.name


@pytest.mark.parametrize("kind", ["record", "receipt", "secret"])
@pytest.mark.parametrize("damage", ["missing", "changed"])
def test_evidence_of_an_earlier_run_is_checked_and_stops_no_new_one(answered, kind, damage, capsys):
    names = {"record": "0001.json", "receipt": "0001.receipt.json", "secret": secret_of(answered, 1)}
    path = answered.path / "models" / names[kind]
    if damage == "missing":
        path.unlink()
    else:
        path.write_text(path.read_text() + " ")
    text = f"{path}, the {kind} of run 1, {'is missing' if damage == 'missing' else 'was changed'}; restore it from a backup."
    assert answered.status().problems == (text,)
    assert main(["status", "--project", str(answered.path)]) == 1
    assert f"error: {text}" in capsys.readouterr().err
    said = []
    found = Project(answered.path, say=said.append).forget(ids=["p9"])
    assert found.outcomes and text in said


def test_a_changed_report_is_named_and_a_missing_one_is_made_anew(answered):
    path = answered.path / "report.html"
    path.write_text(path.read_text().replace("case", "CASE") + "<!-- -->")
    assert "report.html was changed" in answered.status().problems[0]
    path.unlink()
    assert answered.status().problems == ()
    answered.forget(ids=["p9"])
    assert path.exists() and answered.status().problems == ()


def test_older_models_and_their_request_files_may_be_deleted(answered, capsys):
    """They still know what later requests removed."""
    assert answered.status().old_models == ("models/0000.pt", "models/0001.safetensors")
    assert main(["status", "--project", str(answered.path)]) == 0
    assert "older models: models/0000.pt, models/0001.safetensors; they know what" in capsys.readouterr().out
    for name in ("0000.pt", "0001.safetensors", "0001.requests.json"):
        (answered.path / "models" / name).unlink()
    assert answered.status(full=True).problems == () and answered.status().old_models == ()
    answered.forget(ids=["p9"])
    assert answered.status().exit_code == 0 and answered.status().old_models == ("models/0002.safetensors",)
    assert main(["status", "--full", "--project", str(answered.path)]) == 0


def with_metadata(path, **more):
    """Write other metadata into the header of a safetensors file. Its tensors stay the same."""
    data = path.read_bytes()
    end = 8 + struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8:end])
    header["__metadata__"] |= more
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + data[end:])


@pytest.mark.parametrize("name", ["0001.safetensors", "0001.json", "0001.receipt.json"])
def test_bytes_that_change_no_content_are_found(answered, name, capsys):
    """The hash of a model covers its tensors, and that of a record its values: other bytes could hide anything."""
    model, path = answered.path / "models/0001.safetensors", answered.path / "models" / name
    call = ["verify", str(model.with_suffix(".receipt.json")), "--model", str(model)]
    call += ["--record", str(model.with_suffix(".json"))]
    assert main(call) == 0 and answered.status(full=True).problems == (), "the control"
    assert "model file: every byte" in capsys.readouterr().out
    if name == model.name:
        with_metadata(path, note="all names of the forgotten")
    else:
        path.write_bytes(path.read_bytes() + b"\n ")
    assert main(call) == 1
    shown = capsys.readouterr().out
    assert "FAILED" in shown
    assert name.endswith("receipt.json") or "model: this is the model after the run" in shown
    (problem,) = answered.status(full=True).problems
    assert name in problem and ("other bytes were changed" in problem or "was changed" in problem)


def test_the_audit_of_one_request_of_a_run_is_checked(project):
    project.register([wanted(ids=["p1"]), wanted(ids=["p2"])])
    project.answer(pending=True)
    path = project.path / "models/0001.request-2.json"
    assert project.status().problems == ()
    path.write_text(path.read_text() + " ")
    assert project.status().problems == (
        f"{path}, an audit of run 1, was changed; restore it from a backup.",
    )
    path.unlink()
    assert "an audit of run 1, is missing" in project.status().problems[0]


@pytest.mark.parametrize("kind", ["record", "secret", "model"])
def test_full_compares_earlier_files_with_their_receipt(answered, kind):
    """The quick check trusts the hashes of earlier files in state.json, the full one does not."""
    name = {"record": "0001.json", "secret": secret_of(answered, 1), "model": "0001.safetensors"}[kind]
    path = answered.path / "models" / name
    if kind == "model":
        swap_model(answered, 1)
    else:
        values = json.loads(path.read_text())
        if kind == "record":
            values["seed"] = 99
        else:
            values["leaves"] = sorted(["0" * 64, *values["leaves"]])
        path.write_text(json.dumps(values))
        forge(answered, lambda s: s["files"].update({f"models/{name}": sha256(path)}))
    assert answered.status().problems == ()
    (problem,) = answered.status(full=True).problems
    assert "0001" in problem and "is not the" in problem


def test_a_project_of_an_earlier_version_is_compared_with_its_receipts(answered):
    """Its state has no hashes of files."""
    forge(answered, lambda s: s.pop("files"))
    assert answered.status().problems == ()
    path = answered.path / "models/0001.json"
    values = json.loads(path.read_text())
    values["seed"] = 99
    path.write_text(json.dumps(values))
    assert answered.status().problems == (f"{path} is not the record of run 1; restore it from a backup.",)


def test_a_run_whose_data_had_lost_samples_has_its_receipt_in_the_ledger(answered, monkeypatch):
    """It does not prove all ids of the request, which stays open."""
    ledger = Ledger(answered.path / "ledger.db")
    receipt = answered.folder.state()["models"][2]["receipt"]
    assert ledger.answered_by(receipt) == [2] and len(ledger.receipts()) == 2
    assert ledger.receipts(receipt)[0]["id"] == receipt and ledger.receipts("nothing") == []
    monkeypatch.setattr("expunge.projects.delivery.ids_hash", lambda *rest: "another")
    answered.forget(ids=["p9"])
    found = answered.status(full=True)
    assert len(ledger.receipts()) == 3 and found.problems == ()
    assert found.requests[-1].is_open and "proof" in " ".join(found.requests[-1].missing)
    swap_model(answered, 3)
    refused(answered, "is not the model of its receipt")


def test_a_commit_between_two_looks_of_status_is_no_problem(answered, monkeypatch):
    """`status` takes no lock: it reads the state, and then another command commits the next run."""
    old = answered.folder.state()
    answered.forget(ids=["p9"])
    original, states = Folder.state, [old]
    monkeypatch.setattr(Folder, "state", lambda self: states.pop() if states else original(self))
    status = answered.status()
    assert not states and status.problems == () and status.model == "models/0003.safetensors"


def test_a_signed_receipt_without_the_library_for_signatures(answered, tmp_path, monkeypatch):
    """The signature is said to be unchecked, and not to be wrong."""
    make_key(tmp_path / "key")
    path = answered.path / "models/0002.receipt.json"
    signed(Receipt.load(path), tmp_path / "key").save(path)
    forge(answered, lambda s: s["files"].update({"models/0002.receipt.json": sha256(path)}))
    assert answered.status().problems == ()

    def missing():
        raise MissingExtra("checking signatures", "sign")

    monkeypatch.setattr("expunge.receipts.keys._crypto", missing)
    monkeypatch.setattr("expunge.projects.run_checks.find_spec", lambda name: None)
    (problem,) = answered.status().problems
    assert "is signed, but not checked: " in problem and "backup" not in problem


# ---- entries of the state, and ids of answered requests


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: s["requests"].pop(0), "lacks request 1, which .*ledger.db has as a request of"),
        (lambda s: s["requests"][0].update(due="2099-01-01"), "has 2099-01-01 as the due day of request 1"),
        (lambda s: s["requests"][0].update(state="waiting"), "says that request 1 waits"),
        (lambda s: s["requests"][0].update(subject="case 7"), "has case 7 as the subject of request 1"),
        (lambda s: s["requests"][0].update(samples=9), "has 9 as the number of samples of request 1"),
        (lambda s: s.pop("drawn"), "lacks the entry drawn"),
    ],
)
def test_a_state_that_contradicts_the_ledger_is_refused(answered, change, words):
    forge(answered, change)
    refused(answered, words)


def test_ids_swapped_together_with_their_hash_are_found(answered):
    path = answered.path / "models/0002.requests.json"
    values = json.loads(path.read_text())
    values["requests"][0]["ids"] = ["p200", "p2"]
    path.write_text(json.dumps(values))
    forge(answered, lambda s: s["models"][2].update(requests=sha256(path)))
    refused(answered, "request 1 has 1 ids that its receipt ul-")


# ---- the work of a command does not grow with the evidence


def read_by(project, call, monkeypatch):
    """Names of the files that a command hashes."""
    read = []

    def counted(path):
        read.append(path.name)
        return folder_module.sha256(path)

    with monkeypatch.context() as patch:
        patch.setattr(file_checks, "sha256", counted)
        call()
    return read


def test_unchanged_evidence_is_not_read_at_each_command(answered, monkeypatch):
    record = answered.path / "models/0001.json"
    # a copied folder has other inodes: the first command reads the evidence, and its commit notes them
    assert "0001.json" in read_by(answered, lambda: answered.register([wanted(ids=["p60"])]), monkeypatch)
    again = Project(answered.path)
    assert "0001.json" not in read_by(again, lambda: again.register([wanted(ids=["p61"])]), monkeypatch)
    # `status` reads all of it
    assert "0001.json" in read_by(again, again.status, monkeypatch)
    # an edit of the same size changes the time, and a replaced file has another inode
    text, notes = record.read_text(), []
    again.say = notes.append
    record.write_text(text.replace('"seed": 0', '"seed": 1', 1))
    again.register([wanted(ids=["p62"])])
    assert any("the record of run 1, was changed" in note for note in notes)
    record.write_text(text)
    stamp = record.stat()
    other = record.with_name("other")
    other.write_text(text.replace('"seed": 0', '"seed": 1', 1))
    os.utime(other, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    os.replace(other, record)
    notes.clear()
    again.register([wanted(ids=["p63"])])
    assert any("the record of run 1, was changed" in note for note in notes)
