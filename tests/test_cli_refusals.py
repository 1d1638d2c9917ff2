"""Wrong input is refused before the data is read, with all problems at once."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from expunge.cli import main
from expunge.cli.checks import scenario_of
from expunge.cli.flags import SplitFlags
from expunge.models import build
from expunge.records.checkpoint import read_checkpoint, write_checkpoint
from expunge.sources import Preview, load, preview

FORGET = ["--forget-class", "3"]


@pytest.fixture
def files(tmp_path, monkeypatch):
    """A folder that is worked in, with checkpoints for digits and for CIFAR-10; reading data is an error."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cifar").mkdir()
    for name, model, shape in (("mlp", "mlp", (1, 8, 8)), ("resnet20", "resnet20", (3, 32, 32))):
        state = build(model, num_classes=10, shape=shape).state_dict()
        write_checkpoint(tmp_path / f"{name}.pt", state)
        write_checkpoint(tmp_path / f"{name}.safetensors", state)
    write_checkpoint(tmp_path / "gold.pt", state, metadata={"kind": "retrain", "train_hash": ""})
    write_checkpoint(tmp_path / "original.pt", state, metadata={"kind": "original", "train_hash": "1" * 64})

    def never(spec):
        raise AssertionError("the data was read")

    monkeypatch.setattr("expunge.sources.load", never)
    return tmp_path


CIFAR = ["--data", "cifar10:cifar", "--model", "resnet20"]
UNLEARN = ["unlearn", "salun", *CIFAR, *FORGET]


@pytest.mark.parametrize(
    ("words", "messages"),
    [
        (
            ["unlearn", "nhle", *CIFAR, "--forget-share", "0.1", "--checkpoint", "mlp.pt", "--lr", "-1", "--seed", "-1"],
            ["not 'random'", "the seed is -1", "lacks", "does not have", "lr is -1"],
        ),
        (
            [*UNLEARN, "--checkpoint", "none.pt", "--retrained", "missing.pt", "--device", "cuda:99", "--epochs", "0"],
            ["none.pt", "missing.pt", "'cuda:99' is not available", "epochs is 0"],
        ),
        ([*UNLEARN, "--checkpoint", "gold.pt", "--retrained", "original.pt"], ["no original", "is an original"]),
        ([*UNLEARN, "--checkpoint", "resnet20.pt", "--trials", "-1"], ["the number of trials is -1"]),
        (
            [*UNLEARN, "--checkpoint", "resnet20.pt", "--sign-key", "no.key", "--parent", "no.json", "--report", "resnet20.pt"],
            ["no.key", "also an input"],
        ),
        ([*UNLEARN, "--checkpoint", "resnet20.pt", "--amp", "fp16"], ["fp16"]),
        (
            ["audit", *CIFAR, *FORGET, "--original", "mlp.pt", "--checkpoint", "mlp.safetensors", "--max-gap", "-1"],
            ["mlp.pt: the checkpoint lacks", "mlp.safetensors: the checkpoint lacks", "--max-gap is -1", "needs --retrained"],
        ),
        (
            ["train", *CIFAR, "--out", "cifar", "--epochs", "0", *FORGET, "--amp", "fp16"],
            ["is a folder", "epochs is 0", "--without-forget", "fp16"],
        ),
        (
            ["unlearn-generator", "esd", "--data", "digits", "--forget", "3", "--checkpoint", "no.pt", "--out", "o.pt", "--eta",
             "-1", "--mask", "random", "--per-class", "1", "--frozen-target"],
            ["no.pt", "no random mask", "--per-class is 1", "--frozen-target"],
        ),
    ],
)  # fmt: skip
def test_every_problem_is_told_before_the_data_is_read(files, capsys, words, messages):
    before = sorted(files.iterdir())
    assert main(words) == 2
    printed = capsys.readouterr().err
    assert not [message for message in messages if message not in printed], printed
    assert sorted(files.iterdir()) == before


def test_previews_say_what_the_data_says(tmp_path):
    assert preview("digits?limit=100") == Preview(10, (1, 8, 8))
    x, y = np.zeros((6, 5), np.float32), np.array([0, 1, 2, 3, 0, 1])
    np.savez(tmp_path / "a.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    np.savez(tmp_path / "b.npz", x_train=x, y_train=y, x_test=x, y_test=y, classes=list("abcdef"))
    for part in ("train", "test"):
        for name in ("cat", "dog", "ant"):
            (tmp_path / "pictures" / part / name).mkdir(parents=True)
            from PIL import Image

            Image.new("RGB", (9, 7)).save(tmp_path / "pictures" / part / name / "0.png")
    for spec in (
        "digits",
        f"npz:{tmp_path / 'a.npz'}",
        f"npz:{tmp_path / 'b.npz'}",
        f"folder:{tmp_path / 'pictures'}?size=8&channels=1",
    ):
        source = load(spec)
        assert preview(spec) == Preview(len(source.classes), tuple(source.shape)), spec
    for spec in ("npz:/none.npz", "folder:/none", "text:/none.csv", "my.module:data", "cifar10:/none"):
        assert preview(spec) is None


@pytest.mark.parametrize(
    ("flags", "scenario"),
    [
        ({"forget_class": ("3",)}, "class"),
        ({"forget_class": ("3",), "class_share": 0.5}, "class"),
        ({"forget_class": ("3",), "class_share": 0.5, "goal": "untrain"}, "part of a class"),
        ({"forget_share": 0.1}, "random"),
    ],
)
def test_the_scenario_is_known_before_the_split_is_drawn(flags, scenario):
    source = load("digits?limit=300")
    split = SplitFlags(**flags)
    assert scenario_of(split) == split.draw(source.train, source.test).scenario == scenario


def test_a_model_made_early_is_the_model_made_from_the_data(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    digits = ["--data", "digits?limit=300", "--model", "mlp"]
    assert main(["train", *digits, "--out", "o.safetensors", "--epochs", "2"]) == 0
    command = ["unlearn", "salun", *digits, *FORGET, "--checkpoint", "o.safetensors", "--epochs", "1"]
    command += ["--trials", "0", "--lr", "0.001"]
    assert main([*command, "--out", "early.safetensors"]) == 0
    monkeypatch.setattr("expunge.sources.preview", lambda spec: None)
    assert main([*command, "--out", "late.safetensors"]) == 0
    early, late = (read_checkpoint(f"{name}.safetensors").state for name in ("early", "late"))
    assert all(torch.equal(early[name], late[name]) for name in early)
