"""Fixtures: a small trained model with ids and groups, and a project for it."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from expunge import Project, Retrain, Split, train
from expunge.errors import ExpungeError
from expunge.models import build
from expunge.projects import seal
from expunge.projects.settings import checked
from expunge.projects.wanted import wanted
from expunge.receipts.ledger import Ledger
from expunge.receipts.ledger_name import ledger_name
from expunge.sources import load
from expunge.tasks.classification import Classification

FACTORY = """
from expunge import TensorData
from expunge.sources import load
from expunge.sources.source import Source

def data():
    digits = load("digits?limit=400&test_limit=200")
    n = len(digits.train)
    train = TensorData(digits.train.x, digits.train.labels, ids=[f"p{k}" for k in range(n)],
                       groups={"user": [f"Doe, u{k // 8}" for k in range(n)]})
    return Source(train, digits.test, digits.classes, digits.shape, "office")
"""
VALUES = {
    "data": "office_data:data",
    "model": "mlp",
    "validation": 0.0,
    # so that requests for a few ids are neither over-forgotten nor left as they were
    "settings": {"epochs": 4, "batch_size": 64, "lr": 0.005},
    "trials": 0,
}


@pytest.fixture(scope="module")
def office(tmp_path_factory):
    """A folder with the data module, the trained model `mine.pt` and an empty project `project`."""
    folder = tmp_path_factory.mktemp("office")
    (folder / "office_data.py").write_text(FACTORY)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        source = load("office_data:data")
        torch.manual_seed(0)
        fresh = build("mlp", num_classes=10, shape=source.shape)
        split = Split.by_class(source.train, source.test, 3, validation=0)
        recipe = Retrain(epochs=8, lr=0.1, batch_size=64)
        model = train(fresh, split, recipe, Classification(10)).model
        torch.save(model.state_dict(), folder / "mine.pt")
        Project.create(folder / "project", checked(VALUES), folder / "mine.pt")
        yield folder


@pytest.fixture
def project(office, tmp_path):
    shutil.copytree(office / "project", tmp_path / "project")
    return Project(tmp_path / "project")


@pytest.fixture(scope="module")
def answered_folder(office, tmp_path_factory):
    """A project that has answered two samples and a class."""
    path = tmp_path_factory.mktemp("answered") / "project"
    shutil.copytree(office / "project", path)
    Project(path).forget(ids=["p1", "p2"], subject="case 1")
    Project(path).forget(classes=3, subject="case 2")
    return path


@pytest.fixture
def answered(answered_folder, tmp_path):
    shutil.copytree(answered_folder, tmp_path / "answered")
    return Project(tmp_path / "answered")


def edit(project, change, *, sealed):
    """Change `state.json` by hand. `sealed` is what a person with the ledger can do: compute a new seal."""
    path = project.path / "state.json"
    state = json.loads(path.read_text())
    change(state)
    if sealed:
        state = seal.sealed(state, seal.seal_key(ledger_name(project.path / "ledger.db")))
    path.write_text(json.dumps(state))


def reopen(project, count=None):
    """Let an audit have found that the first requests came back, in the state and in the ledger. By default all."""
    ledger = Ledger(project.path / "ledger.db")

    def change(state):
        for entry in state["requests"][:count]:
            entry["state"] = "came back"
            ledger.attach(entry["number"], status="open", note="it came back")

    edit(project, change, sealed=True)


def content(folder):
    """{file: bytes} of a project, without its lock."""
    return {
        str(f.relative_to(folder)): f.read_bytes()
        for f in sorted(Path(folder).rglob("*"))
        if f.is_file() and f.name != ".lock"
    }


def refused_by_all(project, words):
    """Each command that would write is refused with these words and changes nothing."""
    before = content(project.path)
    for call in (
        lambda: project.forget(ids=["p9"]),
        lambda: project.register([wanted(ids=["p9"])]),
        lambda: project.plan([wanted(ids=["p9"])]),
        lambda: project.model,
    ):
        with pytest.raises(ExpungeError, match=words):
            call()
    assert content(project.path) == before
