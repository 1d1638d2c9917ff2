"""The commit of a change: nothing of it is lost after an interrupt, an error, or a write to the ledger from outside."""

import os

import pytest

from expunge import Project
from expunge.errors import ExpungeError
from expunge.projects.folder import Folder
from expunge.projects.wanted import wanted
from expunge.receipts.ledger import Ledger
from project_office import content


def interrupted(monkeypatch, error, at):
    """Let the moves of a file raise an error."""
    original = os.replace

    def replace(source, target, *rest):
        if str(target).endswith(at):
            raise error
        return original(source, target, *rest)

    monkeypatch.setattr(os, "replace", replace)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(28, "No space left on device")])
@pytest.mark.parametrize("at", ["project/ledger.db", "project/samples.npz"])
def test_an_interrupt_behind_the_commit_loses_no_file(project, monkeypatch, error, at):
    with monkeypatch.context() as patch:
        interrupted(patch, error, at)
        words = None if isinstance(error, KeyboardInterrupt) else "cannot be written: No space.*any command again"
        with pytest.raises(KeyboardInterrupt if not words else ExpungeError, match=words):
            project.register([wanted(ids=["p1"], subject="case 1")])
        # a command that takes no lock finds the files in the hidden folder
        status = project.status()
        assert status.problems == () and [r.subject for r in status.requests] == ["case 1"]
        # the next attempt keeps them too
        with pytest.raises((KeyboardInterrupt, ExpungeError)), project.folder.locked():
            pass
    with Folder(project.path).locked():
        pass
    assert not list(project.path.glob(".work-*"))
    assert project.status().problems == () and Ledger(project.path / "ledger.db").count() == 1
    project.register([wanted(ids=["p2"])])
    assert len(project.status().requests) == 2


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(28, "No space left on device")])
def test_an_interrupt_before_the_commit_changes_nothing(project, monkeypatch, error):
    before = content(project.path)
    with monkeypatch.context() as patch:
        interrupted(patch, error, "project/state.json")
        with pytest.raises((KeyboardInterrupt, ExpungeError)):
            project.register([wanted(ids=["p1"])])
    with Folder(project.path).locked():
        pass
    assert content(project.path) == before


def test_a_finished_change_leaves_no_hidden_folder(project):
    Project(project.path).register([wanted(ids=["p1"])])
    assert not list(project.path.glob(".work-*"))
