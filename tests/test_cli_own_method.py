"""A method of the user's own on the command line, by `package.module:Class` and as an entry point of an installed package."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from expunge.cli import main
from expunge.generation.erase_presets import settings
from expunge.records.checkpoint import read_checkpoint
from expunge.records.record import Record

MODULE = '''
"""Pull: descend on the retain set alone, with a pull on the loss."""

from dataclasses import dataclass
from typing import ClassVar

from expunge import GradientMethod


@dataclass(frozen=True, kw_only=True)
class Pull(GradientMethod):
    """Pull: descend on the retain loss.

    Args:
        pull: Weight of the retain loss.
        shares: Shares that are only recorded.
    """

    pull: float = 1.0
    shares: tuple[float, ...] = (0.5, 0.25)

    needs: ClassVar = ("loss",)
    data: ClassVar = ("retain",)

    def loss(self, run, forget, retain):
        return self.pull * run.task.loss(run.model, retain).mean()
'''
DIGITS = ["--data", "digits?limit=300", "--model", "mlp"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder that is worked in, with a method of the user's own and an original."""
    (tmp_path / "mine_pull.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    sys.modules.pop("mine_pull", None)
    if str(tmp_path) in sys.path:
        sys.path.remove(str(tmp_path))


def test_a_class_by_its_place_has_all_its_fields_as_flags(folder, capsys):
    assert main(["unlearn", "mine_pull:Pull", "--help"]) == 0
    shown = capsys.readouterr().out
    assert (
        "Pull: descend on the retain loss." in shown and "Weight of the retain loss. [default: 1.0]" in shown
    )
    assert "--shares FLOAT..." in shown and "[default: 0.5 0.25]" in shown and "--density" in shown
    assert main(["train", *DIGITS, "--out", "o.safetensors", "--epochs", "2"]) == 0
    command = [
        "unlearn",
        "mine_pull:Pull",
        *DIGITS,
        "--checkpoint",
        "o.safetensors",
        "--forget-class",
        "3",
        "--epochs",
        "1",
    ]
    assert main([*command, "--out", "u.safetensors", "--pull", "0.5", "--shares", "0.1", "0.2", "0.3"]) == 0
    record = Record.load(folder / "u.json")
    assert record.settings["pull"] == 0.5 and record.settings["shares"] == [0.1, 0.2, 0.3]
    assert read_checkpoint(folder / "u.safetensors").metadata["kind"] == "unlearn"
    capsys.readouterr()
    assert main([*command, "--pul", "1"]) == 2
    assert "Unknown option: --pul. Did you mean --pull?" in capsys.readouterr().err
    assert main(command) == 0
    assert (folder / "o-mine_pull.safetensors").exists() or list(folder.glob("o-*.safetensors"))


@pytest.mark.slow  # a process of its own
def test_the_console_script_finds_modules_of_the_current_folder(folder):
    """`python -m expunge` puts the current folder on the path; the console script does not."""
    code = "import sys; sys.path = [p for p in sys.path if p]; from expunge.cli import main; sys.exit(main(sys.argv[1:]))"
    done = subprocess.run(
        [sys.executable, "-P", "-c", code, "unlearn", "mine_pull:Pull", "--help"],
        capture_output=True,
        text=True,
        env=os.environ,
    )
    assert done.returncode == 0 and "--pull" in done.stdout, done.stderr


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mine_none:Pull", "cannot be imported"),
        ("mine_pull:Push", "does not define 'Push'; it defines: "),
        ("os:getcwd", "is no method"),
    ],
)
def test_a_place_without_a_method_is_refused(folder, capsys, name, message):
    assert main(["unlearn", name, *DIGITS]) == 2
    assert message in capsys.readouterr().err


def test_a_method_of_an_installed_package_is_listed_and_runs(folder, monkeypatch, capsys):
    """An installed package: its module, and the metadata that pip leaves of it."""
    info = folder / "mine-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[expunge.methods]\npull = mine_pull:Pull\n")
    monkeypatch.syspath_prepend(str(folder))
    assert main(["unlearn", "pull", "--help"]) == 0
    assert "--pull" in capsys.readouterr().out
    assert main(["unlearn", "--help"]) == 0
    assert "Pull: descend on the retain loss." in capsys.readouterr().out


def test_erase_takes_a_class_by_its_place_with_its_own_defaults(folder, capsys):
    assert main(["erase", "mine_pull:Pull", "--help"]) == 0
    text = capsys.readouterr().out
    assert "Pull: descend on the retain loss." in text and "--pull" in text
    assert settings("mine_pull:Pull", epochs=3).epochs == 3
    for place in ("expunge.methods.scrub:Scrub", "mine_none:Pull"):
        assert main(["erase", place, "pipeline", "--concept", "dog", "--out", "no"]) == 2
    text = capsys.readouterr().err
    assert "Scrub needs what the task" in text and "mine_none" in text
