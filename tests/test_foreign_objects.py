"""Objects in a torch file: named without running code, and converted by a process of its own."""

import argparse
import os
from datetime import date
from enum import Enum
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from expunge import CheckpointError
from expunge.cli import main
from expunge.records.checkpoint import read_checkpoint
from expunge.records.foreign_objects import needed_classes


class Bomb:
    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return (os.mkdir, (str(self.file),))


def content(**more):
    return {"state_dict": nn.Linear(2, 2).state_dict(), "epoch": 3, **more}


OBJECTS = {
    "args": (argparse.Namespace(lr=0.1), "args", "argparse.Namespace"),
    "best": ({"acc": np.float64(93.5)}, "best.acc", "numpy._core.multiarray.scalar"),
    "seeds": ([1, np.int64(2)], "seeds.1", "numpy._core.multiarray.scalar"),
    "curve": (np.ones(3), "curve", "numpy._core.multiarray._reconstruct"),
}


@pytest.mark.parametrize(
    "key", ["args", *(pytest.param(k, marks=pytest.mark.slow) for k in list(OBJECTS)[1:])]
)
def test_entry_and_class_are_named_and_the_file_is_converted(tmp_path, key, capsys):
    value, entry, name = OBJECTS[key]
    source, out = tmp_path / "in.pt", tmp_path / "out.pt"
    torch.save(content(**{key: value}), source)
    with pytest.raises(CheckpointError) as caught:
        read_checkpoint(source)
    text = str(caught.value)
    assert (
        f"The entries are {entry} ({name})." in text
        and f"expunge convert {source} OUT --allow {name}." in text
    )
    assert main(["convert", str(source), str(out)]) == 2 and not out.exists()
    assert f"The entries are {entry} ({name})." in capsys.readouterr().err
    assert main(["convert", str(source), str(out), "--allow", name]) == 0
    assert f"may run code of {name}" in capsys.readouterr().err
    read = read_checkpoint(out)
    assert torch.equal(read.state["weight"], torch.load(source, weights_only=False)["state_dict"]["weight"])
    plain = {"args": {"lr": 0.1}, "best": {"acc": 93.5}, "seeds": [1, 2]}
    assert read.rest.get(key) == plain.get(key) and read.rest["epoch"] == 3


def test_code_of_a_file_runs_neither_when_it_is_named_nor_when_another_class_is_allowed(tmp_path, capsys):
    torch.save(content(args=argparse.Namespace(), bad=Bomb(tmp_path / "ran")), tmp_path / "in.pt")
    with pytest.raises(CheckpointError, match=r"args \(argparse\.Namespace\), bad \((posix|nt)\.mkdir\)"):
        read_checkpoint(tmp_path / "in.pt")
    assert (
        main(["convert", str(tmp_path / "in.pt"), str(tmp_path / "o.pt"), "--allow", "argparse.Namespace"])
        == 2
    )
    assert not (tmp_path / "ran").exists() and not (tmp_path / "o.pt").exists()


def test_bad_names_and_files_are_refused(tmp_path, capsys):
    torch.save(content(args=argparse.Namespace()), tmp_path / "in.pt")
    for source, flags in (("in.pt", ["--allow", "no.such.Class"]), ("none.pt", [])):
        assert main(["convert", str(tmp_path / source), str(tmp_path / "o.pt"), *flags]) == 2
    assert "no.such.Class cannot be imported" in capsys.readouterr().err
    assert (
        main(["convert", str(tmp_path / "in.pt"), str(tmp_path / "in.pt"), "--allow", "argparse.Namespace"])
        == 2
    )


def nested():
    """Objects inside of other objects, of which the entries do not tell."""
    run = argparse.Namespace(
        out=Path("runs"), seeds=argparse.Namespace(first=np.int64(3)), when=date(2026, 11, 27)
    )
    return content(args=run, order=Color.RED)


class Color(Enum):
    RED = "red"


def test_one_command_names_all_classes_and_the_result_is_plain(tmp_path, capsys):
    source, out = tmp_path / "in.pt", tmp_path / "out.pt"
    torch.save(nested(), source)
    assert main(["convert", str(source), str(out)]) == 2
    text = capsys.readouterr().err
    names = [
        "argparse.Namespace",
        "datetime.date",
        "numpy._core.multiarray.scalar",
        "pathlib.PosixPath",
        "test_foreign_objects.Color",
    ]
    command = f"expunge convert {source} OUT {' '.join(f'--allow {n}' for n in names)}."
    assert command in " ".join(text.split()) and "weights_only" not in text
    flags = [word for name in names for word in ("--allow", name)]
    # one class is missing: the answer is the whole command, and not torch's text
    assert main(["convert", str(source), str(out), *flags[:-4]]) == 2
    text = " ".join(capsys.readouterr().err.split())
    assert (
        "the file also has pathlib.PosixPath, test_foreign_objects.Color; if you trust it, allow all" in text
    )
    assert command in text and "weights_only" not in text and "add_safe_globals" not in text
    assert needed_classes(source) == names


def test_a_whole_module_becomes_its_state_dict(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv(
        "PYTHONPATH", os.pathsep.join([os.path.dirname(__file__), os.environ.get("PYTHONPATH", "")])
    )
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    torch.save(
        {"model": model, "order": Color.RED, "when": date(2026, 11, 27), "out": Path("runs")},
        tmp_path / "in.pt",
    )
    allow = [word for name in needed_classes(tmp_path / "in.pt") for word in ("--allow", name)]
    assert "torch.nn.modules.container.Sequential" in allow
    assert main(["convert", str(tmp_path / "in.pt"), str(tmp_path / "out.pt"), *allow]) == 0, (
        capsys.readouterr().err
    )
    read = read_checkpoint(tmp_path / "out.pt")
    assert set(read.state) == {"0.weight", "0.bias"} and torch.equal(read.state["0.weight"], model[0].weight)
    assert read.rest["order"] == "red" and read.rest["when"] == "2026-11-27" and read.rest["out"] == "runs"


def test_classes_of_a_file_in_the_old_format_are_named(tmp_path):
    torch.save(
        content(args=argparse.Namespace(lr=0.1)), tmp_path / "in.pt", _use_new_zipfile_serialization=False
    )
    with pytest.raises(CheckpointError, match=r"The entries are args \(argparse\.Namespace\)"):
        read_checkpoint(tmp_path / "in.pt")
    assert needed_classes(tmp_path / "in.pt") == ["argparse.Namespace"]
    torch.save(content(), tmp_path / "plain.pt", _use_new_zipfile_serialization=False)
    assert needed_classes(tmp_path / "plain.pt") == []
