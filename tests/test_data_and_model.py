"""Data that a model cannot run on is refused before anything is entered, trained or audited, and nothing is fixed by it."""

import numpy as np
import pytest
import torch
from PIL import Image

from expunge import Project, TensorData
from expunge.cli import main
from expunge.errors import ExpungeError
from expunge.models import build
from expunge.projects.prepared import prepare
from expunge.projects.settings import checked
from expunge.projects.wanted import wanted
from expunge.sources import load

MODULE = """
from torch import nn

def net(num_classes, shape):
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, num_classes))
"""
WORDS = "the images have 3 channels, and the first convolution takes 1: give such images (for folders and tables of images: the"


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """RGB images, and a model for images of one channel."""
    folder = tmp_path_factory.mktemp("rgb")
    (folder / "gray_net.py").write_text(MODULE)
    x = np.random.default_rng(0).integers(0, 256, (80, 8, 8, 3), dtype=np.uint8)
    for k, picture in enumerate(x):
        file = folder / ("train" if k < 60 else "test") / str(k % 4) / f"u{k}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(file)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        torch.manual_seed(0)
        torch.save(build("gray_net:net", num_classes=4, shape=(1, 8, 8)).state_dict(), folder / "mine.pt")
        yield folder, f"folder:{folder}?size=8"


def values(data, **others):
    return checked(
        {"data": data, "model": "gray_net:net", "validation": 0.0, "trials": 0, "method": "salun", **others}
    )


@pytest.mark.parametrize("command", ["init", "train", "unlearn", "audit"])
def test_every_command_refuses_images_of_other_channels_as_a_wrong_input(world, tmp_path, capsys, command):
    folder, data = world
    common = ["--data", data, "--model", "gray_net:net"]
    checkpoint, forget = ["--checkpoint", str(folder / "mine.pt")], ["--forget-class", "1"]
    arguments = {
        "init": ["init", str(tmp_path / "office"), *common, *checkpoint, "--validation", "0"],
        "train": ["train", *common, "--out", str(tmp_path / "out.pt"), "--epochs", "1"],
        "unlearn": ["unlearn", "salun", *common, *checkpoint, *forget, "--validation", "0"],
        "audit": [
            "audit",
            *common,
            *checkpoint,
            "--original",
            str(folder / "mine.pt"),
            *forget,
            "--validation",
            "0",
        ],
    }[command]
    assert main(arguments) == 2
    assert WORDS in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "office").exists()


def test_a_model_that_no_longer_fits_enters_nothing(world, tmp_path):
    """The data of a project may become unfit after `init`."""
    folder, data = world
    Project.create(tmp_path / "office", values(f"{data}&channels=1"), folder / "mine.pt")
    project, toml = Project(tmp_path / "office"), tmp_path / "office" / "expunge.toml"
    good = toml.read_text()
    toml.write_text(good.replace("&channels=1", ""))
    for call in (project.register, project.plan, project.answer):
        with pytest.raises(ExpungeError, match=r"data and model: the model fails.*channels=1"):
            call([wanted(ids=["train/1/u1.png"])])
    assert project.status().requests == []
    toml.write_text(good)
    assert len(project.register([wanted(ids=["train/1/u1.png"])])) == 1


def test_before_the_first_run_settings_may_change_also_while_a_request_waits(project):
    project.notes = []
    project.say = project.notes.append
    project.register([wanted(ids=["p1", "p2"], subject="a")])
    path = project.path / "expunge.toml"
    text = path.read_text()
    path.write_text(
        text.replace("validation = 0.0", "validation = 0.1").replace("split_seed = 0", "split_seed = 3")
    )
    assert project.status().exit_code == 0
    project.register([wanted(ids=["p9"], subject="b")])
    assert any(
        "no run was made yet, so requests that wait now use expunge.toml as it is" in t for t in project.notes
    )
    held = prepare(project.folder, print).setting
    assert (held.validation, held.split_seed) == (0.1, 3)
    # back again: no file of the other validation set counts
    path.write_text(text)
    found = project.answer(pending=True)
    assert sorted(found.outcome.run.split.forget.ids) == ["p1", "p2", "p9"]
    assert len(found.outcome.run.split.validation) == 0 and project.status(full=True).exit_code == 0
    # the control: after a run they are fixed
    path.write_text(text.replace("validation = 0.0", "validation = 0.1"))
    with pytest.raises(
        ExpungeError, match=r"validation is 0\.1, and the requests of this project were drawn with 0\.0"
    ):
        project.register([wanted(ids=["p20"])])
    assert project.status().exit_code == 2


def test_a_changed_sample_is_refused_also_before_the_first_run(project, monkeypatch):
    """The control: contents of a request that waits are fixed, as another sample would be forgotten."""
    project.register([wanted(ids=["p1"], subject="a")])
    import office_data

    def changed():
        source = load("office_data:original")
        x = source.train.x.clone()
        x[1] += 1
        train = TensorData(x, source.train.labels, ids=list(source.train.ids), groups=source.train.groups)
        return type(source)(train, source.test, source.classes, source.shape, "office")

    monkeypatch.setattr(office_data, "original", office_data.data, raising=False)
    monkeypatch.setattr(office_data, "data", changed)
    with pytest.raises(ExpungeError, match="p1"):
        project.answer(pending=True)
