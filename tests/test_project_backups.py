"""A project of which only some files were restored from a backup: no run forgets what later runs have answered."""

import shutil

import pytest

from expunge import Project
from expunge.cli import main
from expunge.errors import ExpungeError
from expunge.projects.moves import check_targets
from project_office import content, refused_by_all

OLD = r"0003\.json and 4 more files are of run 3, and .*state\.json knows no run after run 2: state\.json and the ledger are older"


@pytest.fixture
def rolled_back(answered, tmp_path):
    """A project with three runs, whose state and ledger are those from before the third one."""
    backup = tmp_path / "backup"
    shutil.copytree(answered.path, backup)
    answered.forget(ids=["p9", "p10"], subject="case 3")
    assert not answered.status().problems, "the control"
    for name in ("state.json", "ledger.db", "samples.npz"):
        shutil.copy2(backup / name, answered.path / name)
    return answered


def test_state_and_ledger_that_are_older_than_the_models_are_refused(rolled_back, capsys):
    """Both are whole, and belong to each other. A run from them would train on the samples of request 3."""
    before = content(rolled_back.path)
    refused_by_all(rolled_back, OLD)
    path = str(rolled_back.path)
    for command in (
        ["forget", "--project", path, "--pending"],
        ["forget", "--project", path, "--ids", "p20", "--dry-run"],
        ["status", "--project", path, "--accept"],
        ["sign", f"{path}/models/0001.receipt.json", "--key", f"{path}/expunge.toml"],
    ):
        assert main(command) == 2, command
    assert main(["status", "--project", path]) == 1
    assert "older than the models" in capsys.readouterr().err
    with pytest.raises(ExpungeError, match="older than the models"):
        Project.create(
            rolled_back.path.parent / "new",
            rolled_back.settings,
            rolled_back.path / "models/0002.safetensors",
        )
    assert content(rolled_back.path) == before


@pytest.mark.parametrize("lost", [(), ("0003.receipt.json",)], ids=["all files", "no receipt"])
def test_only_the_state_is_named_if_the_ledger_knows_the_run(answered, tmp_path, lost):
    backup = tmp_path / "state.json"
    shutil.copy2(answered.path / "state.json", backup)
    answered.forget(ids=["p9", "p10"], subject="case 3")
    shutil.copy2(backup, answered.path / "state.json")
    for name in lost:
        (answered.path / "models" / name).unlink()
    if lost:
        refused_by_all(answered, "state.json, and perhaps the ledger, is older than the models")
        return
    refused_by_all(
        answered,
        r"state\.json is older than the models.* Restore state\.json and all other files .* after run 3",
    )
    assert "ledger are older" not in answered.status().problems[0]


@pytest.mark.parametrize("kept", ["0003.requests.json", "0003.receipt.json", "0003.json", "0003.safetensors"])
def test_one_file_of_a_later_run_is_enough(rolled_back, kept):
    for file in rolled_back.path.glob("models/0003.*"):
        if file.name != kept:
            file.unlink()
    refused_by_all(
        rolled_back, rf"{kept} is of run 3, and .*Restore all files of the project from one backup"
    )


def test_the_remedy_without_a_backup_keeps_the_samples_of_the_lost_run_out(rolled_back, tmp_path):
    latest = rolled_back.path / "models/0003.safetensors"
    problem = rolled_back.status().problems[0]
    assert f"`expunge init NEW --checkpoint {latest}`" in problem
    new = Project.create(tmp_path / "new", rolled_back.settings, latest)
    run = new.forget(ids=["p20"]).outcome.run.split
    assert {"p1", "p2", "p9", "p10"}.isdisjoint(run.retain.ids) and "p21" in run.retain.ids


def test_files_that_are_no_run_of_the_project_stop_nothing(answered):
    for name in ("notes.txt", "3.json", "backup.0007.json"):
        (answered.path / "models" / name).write_text("mine")
    assert answered.status().problems == () and answered.forget(ids=["p9"]).outcomes


def test_a_new_run_never_replaces_a_file_of_another_one(answered, monkeypatch):
    """Also not one that came between the checks and the commit, or between a kill and the next command."""
    place = answered.path / "models/0003.receipt.json"
    run = Project._run

    def and_a_file(*values):
        found = run(*values)
        place.write_text("of a backup")
        return found

    monkeypatch.setattr(Project, "_run", and_a_file)
    with pytest.raises(ExpungeError, match=r"0003\.receipt\.json exists already"):
        answered.forget(ids=["p9"])
    assert place.read_text() == "of a backup" and len(answered.folder.state()["requests"]) == 2
    place.unlink()
    assert answered.status().problems == ()


def test_which_moves_may_replace_a_file(tmp_path):
    for name in ("models/0001.receipt.json", "new/1", "new/2"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    signed = [("new/1", "models/0001.receipt.json"), ("new/2", "ledger.db")]
    check_targets(tmp_path, signed, "models")
    run = [("new/1", "models/0001.receipt.json"), ("new/2", "models/0001.json")]
    with pytest.raises(ExpungeError, match=r"0001\.receipt\.json exists already"):
        check_targets(tmp_path, run, "models")
    # the first file is in its place, and the kill came before the second one
    (tmp_path / "new/1").unlink()
    check_targets(tmp_path, run, "models")
