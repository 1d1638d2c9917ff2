"""Keys and other private files: mode 0600 whatever the umask, from the first moment, also in copies and temporary files."""

import os
import stat
import sys
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest

from expunge.projects.folder import write_private_json
from expunge.receipts.keys import PASSPHRASE, load_private, make_key, read_passphrase
from expunge.receipts.ledger import Ledger
from expunge.records.atomic_files import _umask, atomic, write_private, write_text
from expunge.records.part_files import Part, private_file, private_folder

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows has no modes of files")
MASKS = [0, 0o022, 0o077, 0o277, 0o400, 0o777]
# the files of Python code that make, write and move files; the others would only cost time
TRACED = ("keys", "atomic_files", "part_files", "together", "ledger_file", "pathlib", "test_private_files")


@contextmanager
def umask(mask):
    old = os.umask(mask)
    try:
        yield
    finally:
        os.umask(old)


def open_to_others(folder):
    """Files below a folder whose mode, with those of the folders above them, lets another user read or write."""
    found = []
    for path in Path(folder).rglob("*"):
        try:
            parents = [p for p in path.parents if p.is_relative_to(folder) and p != Path(folder)]
            closed = any(not p.stat().st_mode & 0o011 for p in parents)
            if path.is_file() and not closed and path.stat().st_mode & 0o066:
                found.append(path)
        except FileNotFoundError:
            continue
    return found


def watched(folder, action):
    """Run an action, and return the files that were open to others after any line of the code that makes files."""
    seen = set()

    def look(frame, event, argument):
        if Path(frame.f_code.co_filename).stem not in TRACED:
            return None
        seen.update(open_to_others(folder))
        return look

    before = sys.gettrace()
    sys.settrace(look)
    try:
        action()
    finally:
        sys.settrace(before)
    return seen


def as_plain_user(folder, action):
    """Run an action as a user without the rights of root, who may write to `folder`. Returns whether it succeeded."""
    if os.getuid() != 0:
        action()
        return True
    os.chown(folder, 65534, 65534)
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
            action()
        except BaseException as error:
            print(error, file=sys.stderr)
            os._exit(1)
        os._exit(0)
    return os.waitpid(child, 0)[1] == 0


def reachable(folder):
    """Let plain users enter the folders above: those of pytest are closed."""
    for parent in (folder, *folder.parents):
        if stat.S_IMODE(parent.stat().st_mode) & 0o001 == 0:
            os.chmod(parent, stat.S_IMODE(parent.stat().st_mode) | 0o001)
    return folder


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize(
    ("mask", "lock"),
    [
        (0, None),
        pytest.param(0, b"open sesame", marks=pytest.mark.slow),
        pytest.param(0o777, None, marks=pytest.mark.slow),
    ],
)
def test_a_key_is_0600_under_any_umask_and_is_never_open(tmp_path, mask, lock):
    make_key(tmp_path / "warm up", lock)  # imports are not traced
    with umask(mask):
        seen = watched(tmp_path, lambda: make_key(tmp_path / "key", lock))
    assert mode(tmp_path / "key") == 0o600 and mode(tmp_path / "key.pub") == 0o666 & ~mask
    # of all files that others could ever read, none was the private key or a part of it
    assert {p.name for p in seen} <= {"key.pub", "warm up.pub"}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["key", "key.pub", "warm up", "warm up.pub"]


def test_the_watch_sees_a_file_that_is_open_for_a_moment(tmp_path):
    def careless():
        (tmp_path / "key").write_text("secret")
        os.chmod(tmp_path / "key", 0o600)

    with umask(0):
        seen = watched(tmp_path, careless)
    assert {p.name for p in seen} == {"key"} and not open_to_others(tmp_path)


@pytest.mark.parametrize("mask", MASKS, ids=oct)
def test_a_plain_user_makes_and_reads_a_key_under_any_umask(tmp_path, mask):
    folder = reachable(tmp_path) / "own"
    folder.mkdir()
    load_private_works = []

    def action():
        with umask(mask):
            make_key(folder / "key")
            write_private_json(folder / "state.json", {"a": 1})
            private_folder(folder / "private")
            private_file(folder / "private" / "file")
            with atomic(folder / "text") as part:
                part.write_text("x")
        load_private_works.append(load_private(folder / "key"))

    make_key(tmp_path / "warm up")
    assert as_plain_user(folder, action)
    assert mode(folder / "key") == 0o600 == mode(folder / "state.json") == mode(folder / "private" / "file")
    assert mode(folder / "private") == 0o700 and mode(folder / "text") == 0o666 & ~mask


def test_a_private_file_is_private_before_it_has_content(tmp_path):
    with umask(0), atomic(tmp_path / "s", private=True) as part:
        assert mode(part) == 0o600 and mode(part.parent) == 0o700
    part = Part(tmp_path / "left")
    assert mode(part.folder) == 0o700, "what a killed process leaves is closed too"
    part.remove()
    with pytest.raises(FileExistsError):
        private_file(tmp_path / "s")


def test_asking_for_the_umask_never_opens_files_of_other_threads(tmp_path):
    modes, stop = set(), threading.Event()

    def writer():
        number = 0
        while not stop.is_set() and number < 3000:
            number += 1
            path = tmp_path / str(number)
            path.touch()
            modes.add(mode(path))

    with umask(0o027):
        other = threading.Thread(target=writer)
        other.start()
        for _ in range(3000):
            assert _umask() == 0o027
        stop.set()
        other.join()
    assert all(m & 0o027 == 0 for m in modes)


def test_a_ledger_and_its_export_are_private(tmp_path):
    folder = tmp_path / "new"
    with umask(0):
        seen = watched(folder, lambda: Ledger(folder / "l.db", create=True).add("case", ["a"]))
        Ledger(folder / "l.db").export(folder / "l.json")
    assert not seen and mode(folder / "l.db") == 0o600 == mode(folder / "l.json")


def test_a_key_that_others_can_read_costs_a_warning(tmp_path, recwarn):
    make_key(tmp_path / "key")
    make_key(tmp_path / "locked", b"word")
    load_private(tmp_path / "key")
    os.chmod(tmp_path / "locked", 0o644)
    load_private(tmp_path / "locked", b"word")
    assert not recwarn
    os.chmod(tmp_path / "key", 0o640)
    with pytest.warns(RuntimeWarning, match="chmod 600"):
        load_private(tmp_path / "key")


def test_a_passphrase_of_any_bytes_is_read_as_it_is(tmp_path, monkeypatch):
    monkeypatch.setenv(PASSPHRASE, os.fsdecode(b"caf\xe9"))
    assert read_passphrase() == b"caf\xe9"
    make_key(tmp_path / "key", read_passphrase())
    assert load_private(tmp_path / "key") is not None


def test_a_text_in_the_place_of_a_private_file_is_not_replaced(tmp_path):
    write_text(tmp_path / "key", "old")
    with pytest.raises(ValueError, match="exists"):
        write_private(tmp_path / "key", "new")
    assert (tmp_path / "key").read_text() == "old"
