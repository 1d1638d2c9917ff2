"""Commands of a project find the user's own modules from any folder."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import torch

from expunge.cli import main
from expunge.errors import ExpungeError
from expunge.imports import import_object, search_in
from expunge.projects.settings import checked, read_settings
from project_office import FACTORY, VALUES

MODEL = """
from torch import nn

def net(num_classes=10, shape=(1, 8, 8)):
    size = shape[0] * shape[1] * shape[2]
    return nn.Sequential(nn.Flatten(), nn.Linear(size, 16), nn.ReLU(), nn.Linear(16, num_classes))
"""
RUN = "import sys; from expunge.cli import main; sys.exit(main(sys.argv[1:]))"


def expunge(folder, *words):
    """Run a command in a process of its own, as a shell does: no module is loaded yet."""
    command = [sys.executable, "-c", RUN, *map(str, words)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.slow
def test_all_commands_work_from_another_folder(tmp_path):
    """Five processes, so it takes more than two seconds."""
    code, other, project = (tmp_path / name for name in ("code", "other", "office"))
    code.mkdir()
    other.mkdir()
    (code / "own_office_data.py").write_text(FACTORY)
    (code / "own_office_net.py").write_text(MODEL)
    namespace = {}
    exec(MODEL, namespace)
    torch.manual_seed(0)
    torch.save(namespace["net"]().state_dict(), tmp_path / "mine.pt")
    flags = ["--data", "own_office_data:data", "--model", "own_office_net:net", "--validation", "0"]
    done = expunge(code, "init", project, "--checkpoint", tmp_path / "mine.pt", *flags, "--trials", "0")
    assert done.returncode == 0, done.stderr
    assert tomllib.loads((project / "expunge.toml").read_text())["modules"] == [str(code)]
    # a module of the same name in the current folder is not the one of the project
    (other / "own_office_net.py").write_text("raise RuntimeError('the wrong file')")
    (tmp_path / "ids.txt").write_text("p1\np2\n")
    for words in (
        ("status",),
        ("forget", "--ids", tmp_path / "ids.txt", "--dry-run"),
        ("forget", "--ids", tmp_path / "ids.txt", "--wait"),
        ("status", "--full"),
    ):
        done = expunge(other, *words, "--project", project)
        assert done.returncode == 0, done.stderr


def test_a_missing_module_is_refused_with_the_folders_that_were_searched(
    project, tmp_path, monkeypatch, capsys
):
    """A project of an earlier version has no entry `modules`."""
    path = project.path / "expunge.toml"
    lines = path.read_text().replace('model = "mlp"', 'model = "lost_office_net:net"').splitlines()
    path.write_text("\n".join(line for line in lines if not line.startswith("modules")) + "\n")
    (tmp_path / "ids.txt").write_text("p1\n")
    monkeypatch.chdir(tmp_path)
    call = ["forget", "--project", str(project.path), "--ids", "ids.txt", "--wait"]
    assert main(call) == 2
    error = capsys.readouterr().err
    assert f"No module named 'lost_office_net' in {tmp_path} or among the installed packages; " in error
    assert (
        "the folder that has lost_office_net.py, add that folder to PYTHONPATH or, for a project, to the entry modules"
        in error
    )
    # a folder that does not exist is named before anything is imported
    path.write_text(f'modules = ["gone"]\n{path.read_text()}')
    assert main(call) == 2
    places = "office_data.py or office_data/, lost_office_net.py or lost_office_net/"
    assert (
        f"modules: {project.path / 'gone'} is no folder; name the one that has {places}."
        in capsys.readouterr().err
    )
    # a module that is there and needs another one says which
    (tmp_path / "lost_office_net.py").write_text("import nowhere_at_all")
    path.write_text(path.read_text().replace('["gone"]', "[]"))
    assert main(call) == 2
    assert "No module named 'nowhere_at_all'; write package.module:name" in capsys.readouterr().err


def test_relative_folders_begin_at_the_project(tmp_path):
    (tmp_path / "code").mkdir()
    (tmp_path / "expunge.toml").write_text('data = "digits"\nmodel = "cnn"\nmodules = ["code"]\n')
    assert read_settings(tmp_path / "expunge.toml").modules == [str(tmp_path / "code")]
    assert str(tmp_path / "code") in sys.path
    # the next project removes them
    checked(VALUES | {"data": "digits"})
    assert str(tmp_path / "code") not in sys.path


def test_two_projects_with_modules_of_one_name_do_not_mix(tmp_path):
    """Before, the second one would have got the module of the first without a word."""
    values = {**VALUES, "data": "digits", "model": "twin_office_net:net"}
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "twin_office_net.py").write_text(f"def net():\n    return {name!r}\n")
    try:
        checked({**values, "modules": [str(tmp_path / "one")]})
        assert import_object("twin_office_net:net", ExpungeError)() == "one"
        checked({**values, "modules": [str(tmp_path / "one")]})
        with pytest.raises(ExpungeError, match="give the modules different names") as caught:
            checked({**values, "modules": [str(tmp_path / "two")]})
        assert str(tmp_path / "one") in str(caught.value) and str(tmp_path / "two") in str(caught.value)
    finally:
        sys.modules.pop("twin_office_net", None)
        search_in([])


def test_the_folder_changes_no_attempt_and_packages_have_none(project):
    settings = project.settings
    assert [Path(f).name for f in settings.modules] == [Path(sys.modules["office_data"].__file__).parent.name]
    assert settings.model_copy(update={"modules": []}).attempt(3) == settings.attempt(3)
    from expunge.projects.own_modules import module_folders

    assert module_folders({"data": "digits", "model": "torch.nn:Linear", "method": "salun"}) == []
    assert module_folders({"data": "text:a.csv", "model": "hf-config:d", "measures": ["ToW"]}) == []
