"""Objects in a torch file: named without running code, and converted by a process of its own."""

import argparse
import os

import numpy as np
import pytest
import torch
from torch import nn

from expunge import CheckpointError
from expunge.cli import main
from expunge.records.checkpoint import read_checkpoint


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


@pytest.mark.parametrize("key", OBJECTS)
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
