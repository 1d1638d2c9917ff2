"""The commit of a change: nothing of it is lost after an interrupt, an error, or a write to the ledger from outside."""

import os
import shutil
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

from expunge import Project
from expunge.cli import main
from expunge.errors import ExpungeError
from expunge.projects import changes
from expunge.projects.folder import Folder
from expunge.projects.wanted import wanted
from expunge.receipts.ledger import Ledger
from project_office import content, refused_by_all


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
        words = (
            None if isinstance(error, KeyboardInterrupt) else "cannot be written: No space.*any command again"
        )
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


# ---- writes to the ledger while a command runs


def during_a_run(monkeypatch, act):
    """Let `act` happen between the copy of the ledger and the commit of the next command."""
    original = changes.read_states

    def then_act(ledger, requests, receipts):
        others = original(ledger, requests, receipts)
        act()
        return others

    monkeypatch.setattr(changes, "read_states", then_act)


@pytest.mark.parametrize(
    "words",
    [["attach", 1, "--status", "withdrawn"], ["limits", "--max-gap", 3], ["add", "case 9"]],
)
def test_a_ledger_command_does_not_write_while_another_command_runs(project, monkeypatch, capsys, words):
    book = project.path / "ledger.db"
    project.register([wanted(ids=["p1"])])
    call = ["ledger", words[0], str(book), *map(str, words[1:])]
    codes = []
    with monkeypatch.context() as patch:
        during_a_run(patch, lambda: codes.append(main(call)))
        project.register([wanted(ids=["p2"])])
    assert (
        codes == [2]
        and f"another command works in {project.path.resolve()} (process" in capsys.readouterr().err
    )
    assert Ledger(book).count() == 2 and Ledger(book).request(1).state == "open"
    # the control: it writes once the other command has ended
    head = Ledger(book).head()
    assert main(call) == 0 and Ledger(book).head() != head


def test_rows_that_a_program_wrote_during_a_run_are_not_lost(project, monkeypatch):
    book = Ledger(project.path / "ledger.db")
    project.register([wanted(ids=["p1"])])
    with monkeypatch.context() as patch:
        during_a_run(patch, lambda: book.attach(1, status="withdrawn"))
        with pytest.raises(ExpungeError, match=r"ledger.db was written while this command ran, so no file"):
            project.register([wanted(ids=["p2"])])
    assert book.request(1).state == "withdrawn" and len(project.status().requests) == 1
    project.register([wanted(ids=["p2"])])
    assert book.request(1).state == "withdrawn" and len(project.status().requests) == 2


def test_a_writer_that_waited_for_a_replaced_ledger_is_told(project, monkeypatch):
    """SQLite would write its row into the file that no longer has a name."""
    book = Ledger(project.path / "ledger.db")
    copy, original = project.path / "copy.db", book._open
    shutil.copy(book.path, copy)

    @contextmanager
    def replaced():
        with original() as db:
            os.replace(copy, book.path)
            yield db

    monkeypatch.setattr(book, "_open", replaced)
    with pytest.raises(ExpungeError, match="was replaced by a command of its project"):
        book.add("case 1")
    monkeypatch.undo()
    assert book.count() == 0 and book.add("case 1") == 1


def test_rows_that_a_program_wrote_behind_an_interrupted_commit_are_not_lost(project, monkeypatch, tmp_path):
    book = project.path / "ledger.db"
    project.register([wanted(ids=["p1"])])
    with monkeypatch.context() as patch:
        interrupted(patch, KeyboardInterrupt(), "project/ledger.db")
        with pytest.raises(KeyboardInterrupt):
            project.register([wanted(ids=["p2"])])
    Ledger(book).attach(1, status="withdrawn")
    before = content(project.path)
    for call in (lambda: project.register([wanted(ids=["p3"])]), Folder(project.path).locked().__enter__):
        with pytest.raises(
            ExpungeError, match=r"the rows written then are in no other file.*Move .*ledger.db out"
        ):
            call()
    assert content(project.path) == before
    assert any("Move " in text for text in project.status().problems)
    # what the sentence says
    shutil.move(book, tmp_path / "kept.db")
    project.register([wanted(ids=["p3"])])
    assert project.status().problems == () and Ledger(book).count() == 3
    assert Ledger(tmp_path / "kept.db").request(1).state == "withdrawn"


# ---- files that lie elsewhere


@pytest.mark.parametrize("name", ["ledger.db", "state.json"])
def test_a_linked_file_is_refused_before_a_change(project, tmp_path, name):
    project.register([wanted(ids=["p1"])])
    shutil.move(project.path / name, tmp_path / name)
    (project.path / name).symlink_to(tmp_path / name)
    refused_by_all(project, rf"{name} is a link to .*copy the file into its place")
    assert any("is a link" in text for text in project.status().problems)
    (project.path / name).unlink()
    shutil.copy(tmp_path / name, project.path / name)
    project.register([wanted(ids=["p2"])])
    assert project.status().problems == ()


def test_models_on_another_file_system_are_refused_and_other_links_are_not(project, tmp_path, monkeypatch):
    shutil.move(project.path / "models", tmp_path / "models")
    (project.path / "models").symlink_to(tmp_path / "models")
    (tmp_path / "link").symlink_to(project.path)
    Project(tmp_path / "link").register([wanted(ids=["p1"])])
    assert project.status().problems == ()
    original = Path.stat

    def stat(path, **options):
        found = original(path, **options)
        return SimpleNamespace(st_dev=-1, st_mode=found.st_mode) if path.name == "models" else found

    monkeypatch.setattr(Path, "stat", stat)
    refused_by_all(project, "models is on another file system .* move the whole project")


def test_days_are_checked_when_a_request_comes(project):
    before, said = content(project.path), []
    for day in ("2199-12-31", "2106-11-27"):
        with pytest.raises(ExpungeError, match=f"received on {day} is after today"):
            project.register([wanted(ids=["p1"], received=day)])
    with pytest.raises(ExpungeError, match=r"due on 2206-11-27 is not between"):
        project.register([wanted(ids=["p1"], due="2206-11-27")])
    assert content(project.path) == before
    Project(project.path, say=said.append).register([wanted(ids=["p1"], due="2106-11-27")])
    assert any("request 1: due on 2106-11-27 is" in text for text in said)


# ---- errors of the system


@pytest.mark.parametrize("error", [BrokenPipeError(32, "Broken pipe"), TimeoutError("no answer")])
def test_an_error_that_is_of_no_file_is_not_blamed_on_the_folder(project, error):
    def say(text):
        raise error

    before = content(project.path)
    with pytest.raises(type(error)) as caught:
        Project(project.path, say=say).register([wanted(ids=["p1"], due="2106-11-27")])
    assert caught.value is error and content(project.path) == before


def test_a_full_disk_is_told_without_a_file_name(project):
    with pytest.raises(ExpungeError, match="make room on the disk"), project.folder.locked():
        raise OSError(28, "No space left on device")


# ---- the file of the lock


@pytest.mark.parametrize("other", [True, False], ids=["another command worked meanwhile", "no other command"])
def test_a_lock_that_is_deleted_while_a_command_works_is_named(project, monkeypatch, other):
    """The other command removed the files of this one, which then blamed the ledger and asked for a backup."""
    run = Project._run

    def without_lock(*values):
        found = run(*values)
        (project.path / ".lock").unlink()
        if other:
            monkeypatch.undo()
            Project(project.path).register([wanted(ids=["p9"], subject="other")])
        return found

    monkeypatch.setattr(Project, "_run", without_lock)
    with pytest.raises(ExpungeError, match=r"\.lock was deleted or replaced while this command worked"):
        project.forget(ids=["p1"], subject="case 1")
    monkeypatch.undo()
    assert [r.subject for r in project.status().requests] == [
        "other"
    ] * other and project.status().problems == ()
    assert project.forget(ids=["p1"]).outcomes and len(project.status().requests) == 1 + other


def test_other_errors_of_a_command_say_nothing_of_the_lock(project):
    with pytest.raises(ExpungeError, match=r"^of the block$"), project.folder.locked():
        raise ExpungeError("of the block")
