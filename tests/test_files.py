"""Outputs are written whole or not at all, together or not at all, with a clear error where writing is not possible."""

from __future__ import annotations

import gc
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import torch

from expunge.cli import main
from expunge.errors import ExpungeError, WriteError
from expunge.records.atomic_files import atomic, write_json, write_private, write_text
from expunge.records.checkpoint import write_checkpoint
from expunge.records.part_files import SUFFIX, left_behind, remove
from expunge.records.together import finish_or_remove, journal_of, staged, together

POSIX = pytest.mark.skipif(os.name == "nt", reason="needs files of POSIX systems")


def names(folder):
    return sorted(f.name for f in folder.iterdir())


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 256 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)]
    if sys.platform != "linux" or os.geteuid() or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("a small file system can only be mounted by root on Linux")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


# ---- one output


def test_a_failed_block_leaves_no_file(tmp_path):
    with pytest.raises(RuntimeError), atomic(tmp_path / "x") as part:
        part.write_text("half")
        raise RuntimeError
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("write", [write_text, write_private])
def test_impossible_outputs_are_refused(tmp_path, write):
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    with pytest.raises(WriteError, match=r"cannot be written: .*give another path"):
        write(tmp_path / "file" / "x.txt", "text")
    with pytest.raises(ExpungeError):
        write(tmp_path / "folder", "text")
    assert not list((tmp_path / "folder").iterdir())


def test_a_name_of_250_characters_is_written_and_one_of_300_is_refused(tmp_path):
    write_text(tmp_path / ("n" * 250), "text")
    write_text(tmp_path / ("é" * 125), "text")
    with pytest.raises(WriteError, match="too long; give a shorter name"):
        write_text(tmp_path / ("n" * 300), "text")
    assert [len(os.fsencode(n)) for n in names(tmp_path)] == [250, 250]


@POSIX
def test_special_files_and_links_are_never_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "target").write_text("old")
    (tmp_path / "link").symlink_to(tmp_path / "target")
    (tmp_path / "broken").symlink_to(tmp_path / "nowhere")
    listener = socket.socket(socket.AF_UNIX)
    os.chdir(tmp_path)  # the path of a socket must be short
    listener.bind("socket")
    listener.close()
    before = {name: os.lstat(tmp_path / name).st_ino for name in names(tmp_path)}
    for name in ("pipe", "link", "broken", "socket"):
        for write in (write_text, lambda path, text: write_json(path, [text])):
            with pytest.raises(WriteError, match=r"is a link|is a device, a pipe or a socket"):
                write(tmp_path / name, "new")
        with pytest.raises(ExpungeError), atomic(tmp_path / name, folder=True):
            pass
    with pytest.raises(WriteError, match="is a device"):
        write_text("/dev/null", "text")
    assert before == {name: os.lstat(tmp_path / name).st_ino for name in names(tmp_path)}
    assert (tmp_path / "target").read_text() == "old"


def test_a_hard_link_to_an_output_keeps_its_content(tmp_path):
    (tmp_path / "one").write_text("old")
    os.link(tmp_path / "one", tmp_path / "other")
    write_text(tmp_path / "one", "new")
    assert (tmp_path / "other").read_text() == "old"


@pytest.mark.parametrize("name", ["m.safetensors", "m.pt"])
def test_a_full_disk_is_one_clear_error(small_disk, name):
    with pytest.raises(WriteError) as error:
        write_checkpoint(small_disk / name, {"w": torch.zeros(2**18)})
    assert "cannot be written: No space left on device; make room" in error.value.problems[0]
    del error  # its traceback holds torch's writer, and with it the space
    gc.collect()
    write_text(small_disk / name, "old")
    with pytest.raises(WriteError):
        write_text(small_disk / name, "x" * 2**20)
    assert names(small_disk) == [name] and (small_disk / name).read_text() == "old"


@pytest.mark.parametrize("name", [".state", ".pt", "a.b.c.pt", "a." + "s" * 240])
def test_torch_writes_files_of_any_name(tmp_path, name):
    with atomic(tmp_path / name) as part:
        torch.save({"w": torch.ones(2)}, part)
    assert torch.load(tmp_path / name, weights_only=True)["w"].sum() == 2 and names(tmp_path) == [name]


def test_an_error_of_another_file_is_not_called_a_failed_write(tmp_path):
    with pytest.raises(FileNotFoundError), atomic(tmp_path / "x"):
        (tmp_path / "missing").read_text()


@POSIX
def test_the_modes_of_outputs_follow_the_umask_and_private_ones_do_not(tmp_path):
    old = os.umask(0o027)
    try:
        write_text(tmp_path / "open", "")
        write_private(tmp_path / "private", "")
        with atomic(tmp_path / "folder", folder=True) as part:
            (part / "f").write_text("")
    finally:
        os.umask(old)
    modes = {name: os.stat(tmp_path / name).st_mode & 0o777 for name in names(tmp_path)}
    assert modes == {"open": 0o640, "private": 0o600, "folder": 0o750}


# ---- several outputs


def test_outputs_appear_together(tmp_path):
    with together(tmp_path / "m"):
        write_text(tmp_path / "m", "model")
        write_text(tmp_path / "other" / "r", "record")
        write_private(tmp_path / "s", "secret")
        assert {n for n in names(tmp_path) if not n.startswith(".")} == {"other"}, "no output has appeared"
        assert staged(tmp_path / "m").read_text() == "model" and staged(tmp_path / "x") == tmp_path / "x"
        write_text(tmp_path / "m", "model, again")
    assert names(tmp_path) == ["m", "other", "s"] and names(tmp_path / "other") == ["r"]
    assert (tmp_path / "m").read_text() == "model, again"


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_none_appears_if_one_fails(tmp_path, error):
    write_text(tmp_path / "m", "old")
    with pytest.raises(error), together(tmp_path / "m"):
        write_text(tmp_path / "m", "new")
        write_text(tmp_path / "r", "new")
        raise error
    assert names(tmp_path) == ["m"] and (tmp_path / "m").read_text() == "old"


def test_none_appears_on_a_full_disk(small_disk):
    with pytest.raises(WriteError), together(small_disk / "m"):
        write_text(small_disk / "r", "record")
        write_checkpoint(small_disk / "m", {"w": torch.zeros(2**18)})
    assert names(small_disk) == []


def test_what_must_not_be_replaced_ends_all(tmp_path):
    with pytest.raises(ExpungeError, match="exists and is not replaced"), together(tmp_path / "m"):
        write_text(tmp_path / "m", "new")
        write_private(tmp_path / "s", "secret")
        (tmp_path / "s").write_text("of another process")
    assert names(tmp_path) == ["s"] and (tmp_path / "s").read_text() == "of another process"


@contextmanager
def killed(code, *arguments, ready):
    """A process that ran `code` until `ready()` and was then killed."""
    process = subprocess.Popen([sys.executable, "-c", code, *map(str, arguments)])
    try:
        deadline = time.monotonic() + 60
        while not ready() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        assert process.poll() is None, "the process ended before it was killed"
        yield process
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()


BETWEEN = """
import os, sys, time
from pathlib import Path
from expunge.records.atomic_files import write_text
from expunge.records.together import together
folder, stop = Path(sys.argv[1]), int(sys.argv[2])
moves, replace = [], os.replace
def slow(one, other):
    if not str(other).endswith("journal"):
        moves.append(other)
        if len(moves) > stop:
            (folder / "ready").touch()
            time.sleep(600)
    replace(one, other)
os.replace = slow
with together(folder / "m"):
    for name in ("m", "r", "other/s"):
        write_text(folder / name, "new")
"""


@POSIX
@pytest.mark.parametrize("stop", [0, 1, 2])
@pytest.mark.parametrize("next_place", [".", "other"])
def test_a_kill_between_two_renames_is_finished_by_the_next_command(tmp_path, stop, next_place):
    write_text(tmp_path / "m", "old")
    with killed(BETWEEN, tmp_path, stop, ready=(tmp_path / "ready").exists):
        assert left_behind(tmp_path) == [], "the process is writing"
    assert (tmp_path / "m").read_text() == "old", "the main output is the last one"
    (tmp_path / "ready").unlink()
    finish_or_remove(tmp_path / next_place)
    assert {(tmp_path / name).read_text() for name in ("m", "r", "other/s")} == {"new"}
    finish_or_remove(tmp_path)
    finish_or_remove(tmp_path / "other")
    assert names(tmp_path) == ["m", "other", "r"] and names(tmp_path / "other") == ["s"]


WHILE_WRITING = """
import sys, time
from pathlib import Path
from expunge.records.atomic_files import atomic, write_text
from expunge.records.together import together
target = Path(sys.argv[1])
with together(target):
    write_text(target.with_name("r"), "record")
    with atomic(target, folder=sys.argv[2] == "folder") as part:
        file = part / "weights" if part.is_dir() else part
        file.write_bytes(b"w" * 1000)
        target.with_name("ready").touch()
        time.sleep(600)
"""


@POSIX
@pytest.mark.parametrize("kind", ["file", "folder"])
def test_the_next_write_removes_what_a_kill_left_and_no_part_of_a_living_process(tmp_path, kind):
    target = tmp_path / "m"
    with killed(WHILE_WRITING, target, kind, ready=(tmp_path / "ready").exists):
        assert len(names(tmp_path)) == 3 and left_behind(tmp_path) == []
        assert finish_or_remove(tmp_path) == [] and len(names(tmp_path)) == 3
    (tmp_path / "ready").unlink()
    assert len(left_behind(tmp_path)) == 2 and len(names(tmp_path)) == 2
    code = "import sys; from expunge.records.atomic_files import write_text; write_text(sys.argv[1], 'x')"
    subprocess.run([sys.executable, "-c", code, tmp_path / "x"], check=True)
    assert names(tmp_path) == ["x"]


def test_a_journal_moves_no_other_files(tmp_path):
    (tmp_path / "victim").write_text("mine")
    (tmp_path / "stranger").write_text("theirs")
    moves = [[str(tmp_path / "stranger"), str(tmp_path / "victim")]]
    journal = journal_of(tmp_path / "m")
    for content in (moves, [["a"]], 7, {"a": 1}, [[1, 2]]):
        write_json(journal, content)
        finish_or_remove(tmp_path)
    assert (tmp_path / "victim").read_text() == "mine" and (tmp_path / "stranger").read_text() == "theirs"


@POSIX
def test_a_live_process_ends_its_own_journal(tmp_path, monkeypatch):
    """Another process that tidies the folder between two renames, as a second one under torchrun does, leaves them to their owner."""
    replace_file, seen = os.replace, []

    def replace_and_tidy(part, target):
        replace_file(part, target)
        seen.append((Path(target).name, finish_or_remove(tmp_path), names(tmp_path)))

    monkeypatch.setattr(os, "replace", replace_and_tidy)
    with together(tmp_path / "main"):
        for name in ("main", "a", "b"):
            write_text(tmp_path / name, name)
    assert [name for name, _, _ in seen] == [".main.expunge-journal", "a", "b", "main"]
    assert all(removed == [] for _, removed, _ in seen) and seen[1][2].count("b") == 0
    assert {name: (tmp_path / name).read_text() for name in names(tmp_path)} == {
        "a": "a",
        "b": "b",
        "main": "main",
    }


@POSIX
def test_a_part_folder_that_is_removed_before_its_lock_is_made_again(tmp_path, monkeypatch):
    open_file, taken = os.open, []

    def take_first(path, *args, **kwargs):
        if not taken and str(path).endswith(SUFFIX):
            taken.append(Path(path))
            remove(Path(path))
        return open_file(path, *args, **kwargs)

    monkeypatch.setattr(os, "open", take_first)
    write_text(tmp_path / "x", "x")
    assert len(taken) == 1 and names(tmp_path) == ["x"]


KILLED_LIBRARY = """
import sys, time
import torch
from safetensors.torch import save_file
from expunge.records.atomic_files import atomic
folder = sys.argv[1]
state = {"w": torch.zeros(2**24)}
with atomic(folder + "/m.safetensors") as part:
    save_file(state, part)
    time.sleep(600)
"""


@POSIX
def test_the_temporary_files_of_libraries_are_removed_too(tmp_path):
    """safetensors writes to a file of its own and renames it. It lies in the part folder, wherever the kill comes."""

    def written():
        with suppress(FileNotFoundError):  # renamed meanwhile
            return sum(f.stat().st_size for f in tmp_path.rglob("*") if f.is_file()) > 2**20

    with killed(KILLED_LIBRARY, tmp_path, ready=written):
        pass
    assert len(names(tmp_path)) == 1 and len(left_behind(tmp_path)) == 1
    finish_or_remove(tmp_path)
    assert names(tmp_path) == []


# ---- expunge clean


@POSIX
def test_clean_lists_and_removes_what_was_left(tmp_path, capsys):
    inner = tmp_path / "inner"
    inner.mkdir()
    for part in (".m.safetensors.0123456789ab.expunge-part", ".p.0123456789ab.expunge-part"):
        (inner / part).mkdir()
        (inner / part / ".tmp1234").write_bytes(b"weights")
    (inner / ".m.safetensors.state").write_bytes(b"PK state")
    kept = {".profile.state": "not ours", "m.safetensors": "model", ".x.part": "not ours", ".y.state": ""}
    for name, text in kept.items():
        (inner / name).write_text(text)
    before = names(inner)
    assert main(["clean", str(tmp_path), "--dry-run"]) == 0
    listed = capsys.readouterr().out
    assert names(inner) == before and listed.count("left behind: ") == 2 and ".m.safetensors.state" in listed
    assert main(["clean", str(tmp_path)]) == 0
    listed = capsys.readouterr().out
    assert listed.count("removed: ") == 2 and "--states" in listed
    assert names(inner) == sorted([*kept, ".m.safetensors.state"])
    assert main(["clean", str(tmp_path), "--states"]) == 0 and names(inner) == sorted(kept)
    assert main(["clean", str(tmp_path / "missing")]) == 2
