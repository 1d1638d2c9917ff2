"""`expunge export`: the latest model of a project in the form of the checkpoint that the project began with."""

import json
import shutil

import pytest
import torch
from safetensors import safe_open

from expunge import Project
from expunge.cli import main
from expunge.errors import CheckpointError, ExpungeError
from expunge.projects.export import export_model
from expunge.projects.settings import checked
from expunge.receipts.keys import make_key
from expunge.receipts.receipt import Receipt
from expunge.receipts.verify import verify
from expunge.records.checkpoint import Checkpoint, read_checkpoint
from expunge.records.checkpoint_form import read_form, write_form
from expunge.records.checkpoint_loading import load_into
from expunge.records.hashing import state_hash
from expunge.records.model_names import model_part, names_text
from project_office import VALUES

EXTRA = {"epoch": 8, "class_to_idx": {str(k): k for k in range(10)}, "best_acc": 91.5}


@pytest.fixture(scope="module")
def weights(office):
    return torch.load(office / "mine.pt", weights_only=True)


def made(tmp_path, content, name="mine.pth", **values):
    """A project that began with a file of this content and has answered one request."""
    torch.save(content, tmp_path / name)
    Project.create(tmp_path / "project", checked({**VALUES, **values}), tmp_path / name)
    project = Project(tmp_path / "project")
    project.forget(ids=["p1", "p2"], subject="case 1")
    return project


def failed(checks):
    return [check.name for check in checks if not check.ok]


def test_a_training_checkpoint_keeps_its_entries_and_the_prefix_of_dataparallel(office, weights, tmp_path):
    content = {
        "net": {f"module.{k}": v for k, v in weights.items()},
        "optimizer": {"state": {0: {"momentum_buffer": torch.ones(5000)}}},
        **EXTRA,
    }
    project = made(tmp_path, content)
    # the original may be deleted, and must be
    (project.path / "models" / "0000.pth").unlink()
    (tmp_path / "mine.pth").unlink()
    out, paper = export_model(project.path, tmp_path / "given.pth")
    given = torch.load(out, weights_only=True)
    assert {k: given[k] for k in EXTRA} == EXTRA and set(given) == {"net", "expunge", *EXTRA}
    stored = read_checkpoint(project.path / "models" / "0001.safetensors").state
    assert {k: v.tolist() for k, v in given["net"].items()} == {
        f"module.{k}": v.tolist() for k, v in stored.items()
    }
    assert any(not torch.equal(stored[k], weights[k]) for k in weights)
    # the receipt of the run, for the bytes of this file
    first = Receipt.load(project.path / "models" / "0001.receipt.json")
    assert Receipt.load(paper).id == first.id
    assert failed(verify(paper, model=out, record=project.path / "models" / "0001.json")) == []
    assert failed(verify(project.path / "models" / "0001.receipt.json", model=out)) == ["model file"]
    # and no other file
    given["net"]["module.head.bias"] += 1
    torch.save(given, out)
    assert failed(verify(paper, model=out)) == ["model"]
    assert Project(project.path).status().problems == ()


def test_a_project_that_begins_with_a_model_of_another_one_keeps_the_form(office, weights, tmp_path):
    """A project was begun anew with models/0001 of the old one: exports were bare files that the user's library refuses."""
    content = {"net": {f"module.{k}": v for k, v in weights.items()}, **EXTRA}
    old = made(tmp_path, content)
    latest = old.path / "models" / "0001.safetensors"
    said = []
    Project.create(tmp_path / "new", checked(VALUES), latest, say=said.append)
    new = Project(tmp_path / "new")
    new.forget(ids=["p5", "p6"], subject="case 2")
    shutil.rmtree(old.path)
    out, paper = export_model(new.path, tmp_path / "given.pth")
    given = torch.load(out, weights_only=True)
    stored = read_checkpoint(new.path / "models" / "0001.safetensors").state
    assert set(given) == {"net", "expunge", *EXTRA} and {k: given[k] for k in EXTRA} == EXTRA
    assert all(torch.equal(given["net"][f"module.{k}"], v) for k, v in stored.items())
    assert failed(verify(paper, model=out, record=new.path / "models" / "0001.json")) == []
    assert not any("form" in text for text in said)


def test_a_changed_form_of_the_earlier_project_is_refused(office, weights, tmp_path):
    old = made(tmp_path, {"net": dict(weights), **EXTRA})
    latest = old.path / "models" / "0001.safetensors"
    form = next((old.path / "form").iterdir())
    content = form.read_bytes()
    form.write_bytes(content + b"x")
    with pytest.raises(ExpungeError, match="was changed; restore it from a backup"):
        Project.create(tmp_path / "new", checked(VALUES), latest)
    assert not (tmp_path / "new").exists()
    # the control: with the form that `init` wrote, the project begins
    form.write_bytes(content)
    Project.create(tmp_path / "new", checked(VALUES), latest)


def test_a_file_of_a_module_around_the_model_gets_its_names_and_its_few_tensors_back(
    office, weights, tmp_path
):
    # as Lightning writes it: the model inside, class weights of the loss, hyperparameters
    state = {**{f"net.{k}": v for k, v in weights.items()}, "criterion.weight": torch.arange(10.0)}
    content = {
        "state_dict": state,
        "pytorch-lightning_version": "2.6.6",
        "hyper_parameters": {"lr": 0.01},
        "loops": {},
    }
    project = made(tmp_path, content, "last.ckpt")
    out, paper = export_model(project.path, tmp_path / "given.ckpt")
    given = torch.load(out, weights_only=True)
    assert given["hyper_parameters"] == {"lr": 0.01} and given["pytorch-lightning_version"] == "2.6.6"
    assert set(given["state_dict"]) == set(state)
    assert given["state_dict"]["criterion.weight"].tolist() == list(range(10))
    checks = verify(paper, model=out)
    assert failed(checks) == []
    assert "this model and 10 values of other tensors" in next(
        c.message for c in checks if c.name == "contents"
    )
    # a file that hides a tensor among the others is another model
    given["state_dict"]["criterion.weight"] = torch.zeros(100_000)
    torch.save(given, out)
    assert "model" in failed(verify(paper, model=out))


def test_no_parameter_of_the_original_is_in_the_project_but_in_its_copy(office, weights, tmp_path):
    project = made(tmp_path, {"state_dict": weights, "ema": {k: v + 1 for k, v in weights.items()}, **EXTRA})
    form = torch.load(project.path / "form" / "form.pt", weights_only=True)
    assert form["counters"] == {} and form["rest"] == EXTRA and form["state"] == list(weights)
    size = sum(v.nbytes for v in weights.values())
    assert (project.path / "form" / "form.pt").stat().st_size < size / 10
    out, _ = export_model(project.path, tmp_path / "given.pth")
    given = torch.load(out, weights_only=True)
    assert "ema" not in given and "ema (" in given["expunge"]["dropped"]


def test_a_plain_state_dict_stays_one_and_may_become_safetensors(answered, weights, tmp_path):
    out, paper = export_model(answered.path, tmp_path / "given.pt")
    given, stored = (
        torch.load(out, weights_only=True),
        read_checkpoint(answered.path / "models" / "0002.safetensors"),
    )
    assert list(given) == list(weights) and state_hash(given) == state_hash(stored.state)
    # which requests the model has answered goes with it
    assert read_checkpoint(out).metadata["requests"] == stored.metadata["requests"]
    assert failed(verify(paper, model=out)) == []
    out, paper = export_model(answered.path, tmp_path / "given.safetensors")
    with safe_open(out, "pt") as opened:
        assert set(opened.keys()) == set(weights) and "model_names" not in opened.metadata()
    assert failed(verify(paper, model=out)) == []


def test_the_receipt_of_an_export_is_signed_again(office, weights, tmp_path):
    private = tmp_path / "office.pem"
    make_key(private)
    project = made(tmp_path, {"state_dict": weights, **EXTRA}, sign_key=str(private))
    out, paper = export_model(project.path, tmp_path / "given.pth")
    assert failed(verify(paper, model=out, public_key=f"{private}.pub")) == []


def test_the_command_prints_the_files_and_forget_names_it(office, tmp_path, capsys):
    shutil.copytree(office / "project", tmp_path / "project")
    where = ["--project", str(tmp_path / "project")]
    assert main(["export", str(tmp_path / "given.pt"), *where]) == 2
    assert "has made no run" in capsys.readouterr().err
    (tmp_path / "ids.txt").write_text("p1\np2\n")
    assert main(["forget", "--ids", str(tmp_path / "ids.txt"), *where]) == 0
    assert "`expunge export OUT --project" in capsys.readouterr().out
    assert main(["export", str(tmp_path / "given.pt"), *where]) == 0
    assert f"model: {tmp_path / 'given.pt'}" in capsys.readouterr().out
    assert main(["verify", str(tmp_path / "given.receipt.json"), "--model", str(tmp_path / "given.pt")]) == 0


def test_wrong_places_and_changed_forms_are_refused(answered, tmp_path):
    before = sorted(answered.path.rglob("*"))
    with pytest.raises(ExpungeError, match="is in the folder of the project; name an output outside"):
        export_model(answered.path, answered.path / "models" / "0002.pt")
    file = answered.path / "form" / "form.pt"
    whole = file.read_bytes()
    file.write_bytes(whole + b" ")
    with pytest.raises(ExpungeError, match=r"form\.pt was changed; restore it from a backup"):
        export_model(answered.path, tmp_path / "given.pt")
    file.unlink()
    with pytest.raises(ExpungeError, match=r"form\.pt is missing; restore it"):
        export_model(answered.path, tmp_path / "given.pt")
    assert sorted({*answered.path.rglob("*"), file}) == before
    assert not (tmp_path / "given.pt").exists() and not (tmp_path / "given.receipt.json").exists()


# ---- the parts


def test_names_are_noted_only_where_they_are_not_those_of_the_model():
    assert names_text({"a": "module.a", "b": "module.b"}, "module.", ["n_averaged"]) == ""
    assert json.loads(names_text({"a": "net.a", "b": "net.b"}, "net.", [])) == {
        "prefix": "net.",
        "names": {},
        "others": [],
    }
    assert json.loads(names_text({"a": "x.a", "b": "x.c"}, "x.", ["w"])) == {
        "prefix": "x.",
        "names": {"b": "x.c"},
        "others": ["w"],
    }


def test_the_model_in_a_file_has_the_names_that_its_metadata_gives(tmp_path):
    one, two = torch.ones(20), torch.zeros(20)
    text = names_text({"a": "x.a", "b": "x.c", "tied": "x.a"}, "x.", ["w"])
    state = {"x.a": one, "x.c": two, "w": torch.ones(2)}
    part = model_part(Checkpoint(state, tmp_path, "pt", metadata={"model_names": text}))
    assert set(part.state) == {"a", "b", "tied"} and part.state["tied"] is one and part.state["b"] is two
    assert list(part.others) == ["w"] and part.few_others
    # 7 values beside 60 of the model are more than a tenth
    part = model_part(
        Checkpoint({**state, "w": torch.ones(7)}, tmp_path, "pt", metadata={"model_names": text})
    )
    assert not part.few_others
    for wrong in (
        "",
        "[]",
        "{",
        '{"prefix":"y.","names":{},"others":[]}',
        '{"prefix":"","names":{"a":"q"},"others":[]}',
    ):
        assert model_part(Checkpoint(state, tmp_path, "pt", metadata={"model_names": wrong})) is None
    assert model_part(Checkpoint(state, tmp_path, "pt")) is None


def test_a_form_reads_as_it_was_written(tmp_path):
    torch.save(
        {"model": {"module.weight": torch.ones(2, 3), "module.bias": torch.ones(2)}, "epoch": 3},
        tmp_path / "a.pth",
    )
    checkpoint = read_checkpoint(tmp_path / "a.pth")
    load_into(torch.nn.Linear(3, 2), checkpoint)
    write_form(tmp_path / "form", checkpoint)
    form = read_form(tmp_path / "form")
    same = ("format", "metadata", "keys", "prefix", "rest", "versions", "names", "repeats")
    assert {n: getattr(form, n) for n in same} == {n: getattr(checkpoint, n) for n in same}
    assert form.path.name == "a.pth" and list(form.state) == ["weight", "bias"]
    torch.save({"format": "pt"}, tmp_path / "form" / "form.pt")
    with pytest.raises(CheckpointError, match="is no form of a checkpoint"):
        read_form(tmp_path / "form")
