"""A project whose model loads the trained checkpoint: what retrains from it is refused before it trains, and changes no file."""

import warnings

import pytest
import torch

from expunge import Project
from expunge.cli.app import main
from expunge.errors import ExpungeError
from expunge.projects.settings import checked
from expunge.training.run import Run
from project_office import content, office  # noqa: F401

MODELS = """
from pathlib import Path
import torch
from expunge.models import build

def fresh(num_classes, shape):
    return build("mlp", num_classes=num_classes, shape=shape)

def loaded(num_classes, shape):
    model = fresh(num_classes, shape)
    model.load_state_dict(torch.load(Path(__file__).parent / "mine.pt"))
    return model
"""
SHORT = {"data": "office_data:data", "validation": 0.0, "trials": 0}
RETRAIN = {**SHORT, "method": "retrain", "settings": {"epochs": 8, "batch_size": 64, "lr": 0.1}}
REFERENCE = {
    **SHORT,
    "reference": True,
    "settings": {"epochs": 1, "batch_size": 64, "lr": 0.005},
    "recipe": {"epochs": 1, "batch_size": 64, "lr": 0.1},
}


@pytest.fixture
def make(office, tmp_path):  # noqa: F811
    (office / "office_models.py").write_text(MODELS)

    def made(values, model):
        values = checked({**values, "model": f"office_models:{model}"})
        return Project.create(tmp_path / model, values, office / "mine.pt")

    return made


@pytest.mark.parametrize("values", [RETRAIN, REFERENCE], ids=["retrain", "reference"])
def test_a_factory_that_loads_the_checkpoint_is_refused(make, values, tmp_path, monkeypatch, capsys):
    project = make(values, "loaded")
    before = content(project.path)
    monkeypatch.setattr(Run, "descend", lambda *_: pytest.fail("the run trains"))
    with pytest.raises(
        ExpungeError, match=r"exactly the parameters.*\['features.1.weight'.*load no checkpoint"
    ):
        project.forget(ids=["p1", "p2"])
    ids = tmp_path / "ids.txt"
    ids.write_text("p1\n")
    assert main(["forget", "--project", str(project.path), "--ids", str(ids)]) == 2
    assert "exactly the parameters of the model that was passed in" in " ".join(
        capsys.readouterr().err.split()
    )
    assert content(project.path) == before


def test_it_is_refused_for_a_later_request_too(make):
    """The latest model is no longer the one of the checkpoint, and the project compares with its first model."""
    project = make({**SHORT, "settings": {"epochs": 1, "batch_size": 64, "lr": 0.05}}, "loaded")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        project.forget(ids=[f"p{k}" for k in range(40)])
    text = project.folder.settings_file.read_text()
    project.folder.settings_file.write_text(text.replace('method = "salun"', 'method = "retrain"'))
    before = content(project.path)
    with pytest.raises(ExpungeError, match="exactly the parameters of the original"):
        project.forget(ids=["p50", "p51"])
    assert content(project.path) == before


def test_a_fresh_factory_is_taken(make, office):  # noqa: F811
    project = make(RETRAIN, "fresh")
    found = project.forget(ids=["p1", "p2"])
    assert found.record.ended == "finished"
    trained = torch.load(office / "mine.pt")
    assert not any(torch.equal(v, trained[n]) for n, v in found.model.state_dict().items())
