"""Receipts of other models in the ledger of a project: `expunge ledger attach` accepts them, and they prove nothing of its models."""

import shutil

import pytest

from expunge import Project
from expunge.cli import main
from expunge.projects import answer
from expunge.projects.wanted import wanted
from expunge.receipts.ledger import Ledger
from expunge.receipts.receipt import Receipt
from project_office import content
from test_ledger_proof import make_run


def book(project):
    return Ledger(project.path / "ledger.db")


def evidence(project, ids, run=1):
    """What `attach` takes of a run of a project."""
    place = project.path / "models"
    (secret,) = place.glob(f"{run:04d}.*.secret.json")
    record, receipt = place / f"{run:04d}.json", place / f"{run:04d}.receipt.json"
    return {"record": record, "audit": record, "receipt": receipt, "secret": secret, "ids": ids}


@pytest.fixture(scope="module")
def other_folder(office, tmp_path_factory):
    """Another project with the same first model, whose run 1 forgot p1 and p2."""
    path = tmp_path_factory.mktemp("other") / "other"
    shutil.copytree(office / "project", path)
    Project(path).forget(ids=["p1", "p2"], subject="elsewhere")
    return path


@pytest.fixture
def elsewhere(other_folder):
    return Project(other_folder)


def check_forgotten(project, ids):
    """A run for other samples leaves these out of training, and a run for all open requests forgets them."""
    run = project.forget(ids=["p9"], subject="another").outcome.run.split
    assert set(ids).isdisjoint(run.retain.ids) and "p20" in run.retain.ids
    answer = project.answer(pending=True)
    assert set(ids) <= set(answer.outcome.run.split.forget.ids)
    assert project.status(full=True).problems == ()
    assert [r.shown_state for r in project.status().requests] == ["done"] * len(project.status().requests)


@pytest.mark.parametrize("kind", ["same first model", "another model"])
def test_a_receipt_from_elsewhere_on_a_waiting_request_of_a_new_project(
    project, elsewhere, tmp_path, kind, capsys
):
    """It made the project unusable for ever: no run could be found of which the first model was the latest."""
    project.register([wanted(ids=["p1", "p2"], subject="case 1")])
    files = evidence(elsewhere, ["p1", "p2"]) if kind[0] == "s" else make_run(tmp_path, "o", ["p1", "p2"])
    assert book(project).attach(1, **files).state == "done", "the ledger knows no models"
    (request,) = project.status().requests
    name = Receipt.load(files["receipt"]).id
    assert project.status().problems == () and request.is_open and request.foreign == name
    assert request.shown_state == "done, not proved" and not project.status().waiting
    assert main(["status", "--project", str(project.path)]) == 0
    shown = capsys.readouterr()
    assert f"({name[:11]} is no proof: of another model)" in shown.err and "not proved: 1" in shown.out
    # the ledger in the folder of a project asks the project; a copy elsewhere cannot
    path = project.path / "ledger.db"
    for words in (["list", str(path)], ["show", str(path), "1"]):
        assert main(["ledger", *words]) == 0
        listed = " ".join(capsys.readouterr().out.split())
        assert "done, not proved" in listed and f"({name[:11]} is no proof: of another model)" in listed
    copied = shutil.copy(path, tmp_path / "copied.db")
    assert main(["ledger", "list", str(copied)]) == 0 and "not proved" not in capsys.readouterr().out
    check_forgotten(project, ["p1", "p2"])
    assert book(project).request(1).receipt != name


def test_a_receipt_from_elsewhere_after_runs_of_the_project(answered, elsewhere):
    """Request 3 waited, and the next run trained on its samples."""
    said = []
    answered.say = said.append
    answered.register([wanted(ids=["p11", "p12"], subject="case 3")])
    other = Project(shutil.copytree(elsewhere.path, answered.path.parent / "third"))
    other.forget(ids=["p11", "p12"])
    book(answered).attach(3, **evidence(other, ["p11", "p12"], 2))
    assert answered.plan([wanted(ids=["p9"])]).retain == len(
        set(answered_retain(answered)) - {"p9", "p11", "p12"}
    )
    check_forgotten(answered, ["p11", "p12"])
    assert [
        text
        for text in said
        if "request 3 was closed in the ledger" in text and "no run trains on its samples" in text
    ]


def answered_retain(project):
    """The ids that a run may train on: all but those of the answered requests."""
    train = project._prepare().setting.train
    return [
        str(n)
        for n, y in zip(train.ids, train.labels.tolist(), strict=True)
        if y != 3 and n not in ("p1", "p2")
    ]


def test_a_run_outside_of_the_project_from_its_model(answered, tmp_path):
    """`expunge unlearn --checkpoint models/0002...` makes a model that is none of the project."""
    out = tmp_path / "own.safetensors"
    answered.register([wanted(ids=["p9"], subject="case 3")])
    (tmp_path / "ids.txt").write_text("p9\n")
    model = answered.path / "models/0002.safetensors"
    command = [
        "unlearn",
        "finetune",
        "--data",
        "office_data:data",
        "--model",
        "mlp",
        "--checkpoint",
        str(model),
    ]
    flags = [
        "--forget-ids",
        str(tmp_path / "ids.txt"),
        "--validation",
        "0",
        "--epochs",
        "1",
        "--trials",
        "0",
        "--receipt",
    ]
    assert main([*command, *flags, "--out", str(out)]) == 0
    (secret,) = tmp_path.glob("own.*.secret.json")
    record = out.with_suffix(".json")
    files = {"record": record, "audit": record, "receipt": out.with_suffix(".receipt.json"), "secret": secret}
    book(answered).attach(3, **files, ids=["p9"])
    assert (
        answered.status().problems == () and answered.status().requests[2].shown_state == "done, not proved"
    )
    answered.forget(ids=["p20"])
    assert answered.answer(pending=True).outcomes and answered.status().requests[2].shown_state == "done"


def test_a_receipt_from_elsewhere_on_an_answered_request(answered, tmp_path, capsys):
    """Its samples are forgotten, and the ledger lost the proof: the message says how to attach it again."""
    book(answered).attach(1, **make_run(tmp_path, "other", ["p1", "p2"]))
    assert (
        answered.status().problems == () and answered.status().requests[0].shown_state == "done, not proved"
    )
    assert main(["forget", "--project", str(answered.path), "--pending"]) == 1
    err = capsys.readouterr().err
    place = (answered.path / "models/0001").as_posix()
    assert f"--record {place}.json --audit {place}.json --receipt {place}.receipt.json --ids FILE" in err
    (tmp_path / "ids.txt").write_text("p1\np2\n")
    command = err.partition("`expunge ")[2].partition("`")[0].replace("FILE", str(tmp_path / "ids.txt"))
    assert main(command.split()) == 0
    assert answered.status().requests[0].shown_state == "done"


def test_the_receipt_of_a_run_that_declined_a_request_is_no_answer(project, tmp_path, monkeypatch, capsys):
    """Its forget set has the samples of all requests of the run, so the proof of each id holds."""
    project.register([wanted(ids=["p1", "p2"]), wanted(ids=["p9", "p10"])])
    monkeypatch.setattr(answer, "_failures", lambda *values: {1: "it changed nothing."})
    project.answer(pending=True)
    monkeypatch.undo()
    (tmp_path / "ids.txt").write_text("p9\np10\n")
    receipt = str(project.path / "models/0001.receipt.json")
    command = ["ledger", "attach", str(project.path / "ledger.db"), "2", "--receipt", receipt]
    before = book(project).head()
    assert main([*command, "--ids", str(tmp_path / "ids.txt")]) == 2 and book(project).head() == before
    assert (
        "did not answer request 2 (it changed nothing.), so its receipt proves nothing"
        in capsys.readouterr().err
    )
    for name, told in (("p9", True), ("p1", False)):
        assert main(["verify", receipt, "--prove", name]) == 0
        assert ("the run declined the request" in capsys.readouterr().err) == told
    # a program attaches it all the same
    book(project).attach(2, **evidence(project, ["p9", "p10"]))
    status = project.status()
    assert [r.shown_state for r in status.requests] == ["done", "done, not proved"]
    assert (len(status.waiting), len(status.not_proved)) == (0, 1)
    assert "its run did not answer the request" in status.requests[1].missing[-1]
    assert {"p9", "p10"}.isdisjoint(project.forget(ids=["p20"]).outcome.run.split.retain.ids)
    assert project.answer(pending=True).outcomes and project.status().requests[1].shown_state == "done"


def test_a_ledger_request_with_a_receipt_of_the_project_or_from_elsewhere(answered, elsewhere):
    """`expunge ledger add` and `attach` by hand: neither stops the project."""
    ledger = book(answered)
    ledger.attach(ledger.add("by hand", ["p1", "p2"]), **evidence(answered, ["p1", "p2"]))
    ledger.attach(ledger.add("by hand too", ["p1", "p2"]), **evidence(elsewhere, ["p1", "p2"]))
    assert answered.status().problems == ()
    assert [r.shown_state for r in answered.status().in_ledger] == ["done", "done, not proved"]
    assert answered.forget(ids=["p9"]).outcomes


def test_a_refused_request_with_a_receipt_from_elsewhere_waits_no_more(project, tmp_path):
    project.register([wanted(ids=["p1"]), wanted(ids=["p2"])])
    book(project).attach(1, **make_run(tmp_path, "other", ["p1"]), status="withdrawn")
    run = project.forget(ids=["p9"]).outcome.run.split
    assert "p1" in run.retain.ids and "p2" not in run.retain.ids


def test_the_run_that_the_model_came_with_counts(answered, tmp_path):
    """A new project with the model of an old one: the old receipts are of its model."""
    model = answered.path / "models/0002.safetensors"
    new = Project.create(tmp_path / "new", answered.settings, model)
    ledger = book(new) if (new.path / "ledger.db").exists() else Ledger(new.path / "ledger.db", create=True)
    ledger.attach(ledger.add("of the old project", ["p1", "p2"]), **evidence(answered, ["p1", "p2"]))
    assert [r.shown_state for r in new.status().in_ledger] == ["done"]
    before = content(new.path)
    assert new.plan([wanted(ids=["p9"])]).forget == 1 and content(new.path) == before
