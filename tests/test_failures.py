"""How commands fail: exit codes, streams that close, disks that fill, and results that are not lost."""

from __future__ import annotations

import errno
import io
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from expunge.cli import main
from expunge.cli.app import COMMANDS, Command, build_app
from expunge.cli.exit_codes import CHECKS, MEANINGS, NO_RESULT, NOT_POSSIBLE, RUNS, UNEXPECTED, table
from expunge.errors import CheckpointError, UnlearningFailed, WriteError
from expunge.records.checkpoint import read_checkpoint
from expunge.records.record import Record

PAGE = Path(__file__).parent.parent / "docs" / "failures.md"
POSIX = pytest.mark.skipif(os.name == "nt", reason="needs devices and signals of POSIX systems")
DIGITS = ["--data", "digits?limit=300", "--model", "mlp"]
OUTPUTS = ["u.json", "u.receipt.json", "u.requests.json", "u.safetensors", "u.ul.secret.json"]


def names(folder):
    """The names of files in a folder, that of a secret without the number of its receipt."""
    return sorted(re.sub(r"ul-\w+", "ul", f.name) for f in Path(folder).iterdir())


def all_commands() -> list[list[str]]:
    """Every command, each action of the ledger, and one method of each command that has methods."""
    found: list[list[str]] = []
    for name, command in COMMANDS.items():
        if name == "ledger":
            found += [[name, action] for action in build_app([name])[name] if not action.startswith("-")]
        else:
            found.append([name, "salun"] if command.per_method else [name])
    return found


# ---- the table


def test_the_page_has_the_table_of_the_code():
    assert table() in PAGE.read_text(encoding="utf-8"), "python -m expunge.cli.exit_codes prints it"


def test_the_table_names_commands_and_their_help_names_its_codes():
    commands = [" ".join(words[:2] if words[0] == "ledger" else words[:1]) for words in all_commands()]
    assert set(CHECKS) | set(RUNS) <= set(commands)
    for words in all_commands():
        name = " ".join(words[:2] if words[0] == "ledger" else words[:1])
        command = COMMANDS[words[0]]
        target = command.load()
        text = target().text if command.per_method else build_app(words)[words[0]].help
        if words[0] == "ledger":
            text = build_app(words)["ledger"][words[1]].help
        codes = {int(n) for n in re.findall(r"[Ee]xit code (\d)", text or "")}
        listed = ({1} if name in CHECKS else set()) | ({3} if name in RUNS else set())
        codes -= {NOT_POSSIBLE}  # open to every command
        assert codes <= listed, name
        assert words[0] in ("unlearn", "unlearn-generator", "train-generator", "status") or codes == listed, (
            name
        )


@pytest.mark.parametrize("words", all_commands(), ids=" ".join)
def test_every_command_has_help_and_refuses_an_unknown_flag(words, capsys):
    assert main([*words, "--help"]) == 0
    assert main([*words, "--no-such-flag", "1"]) == NOT_POSSIBLE
    assert "error:" in capsys.readouterr().err


ERRORS = [
    (CheckpointError("x is broken; copy it."), NOT_POSSIBLE, "x is broken; copy it."),
    (WriteError("x cannot be written; make room."), NOT_POSSIBLE, "make room"),
    (UnlearningFailed("salun diverged.", None), NO_RESULT, "salun diverged."),
    (
        OSError(28, "No space left on device", "/a/b"),
        NOT_POSSIBLE,
        "/a/b cannot be used: No space left on device",
    ),
    (PermissionError(13, "Permission denied", b"/a/\xff"), NOT_POSSIBLE, "Permission denied"),
    (OSError("without a number"), NOT_POSSIBLE, "without a number"),
    (BrokenPipeError(32, "Broken pipe"), NOT_POSSIBLE, "Broken pipe"),
    (MemoryError(), NOT_POSSIBLE, "not enough memory"),
    (
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"),
        NOT_POSSIBLE,
        "not enough memory",
    ),
    (type("OutOfMemoryError", (RuntimeError,), {})("CUDA"), NOT_POSSIBLE, "not enough memory"),
    (type("SafetensorError", (Exception,), {})("header too large"), NOT_POSSIBLE, "header too large"),
    (KeyboardInterrupt(), 130, "interrupted"),
    (RecursionError("too deep"), UNEXPECTED, "unexpected RecursionError: too deep"),
    (ZeroDivisionError("a\n\x1b[31mb"), UNEXPECTED, "unexpected ZeroDivisionError: a."),
    (KeyError("\x1b[31m"), UNEXPECTED, "unexpected KeyError"),
    (AssertionError(), UNEXPECTED, "unexpected AssertionError"),
    (SystemExit(0), UNEXPECTED, "unexpected SystemExit"),
]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_error_of_every_command_ends_with_its_code_and_without_traceback(name, monkeypatch, capsys):
    for error, code, text in ERRORS:

        def fails(error=error):
            raise error

        monkeypatch.setitem(COMMANDS, name, Command("x:y", "fails"))
        monkeypatch.setattr(Command, "load", lambda self, fails=fails: fails)
        assert main([name]) == code
        err = capsys.readouterr().err
        assert text in err and "Traceback" not in err and "\x1b" not in err
        assert main([name, "--debug"]) == code
        assert "Traceback" in (err := capsys.readouterr().err) and text in err
    assert {code for _, code, _ in ERRORS} | {0, 1} == set(MEANINGS)


# ---- streams


def expunge(*words, cwd=None, **options):
    command = [sys.executable, "-m", "expunge", *map(str, words)]
    return subprocess.run(command, cwd=cwd, text=True, stderr=subprocess.PIPE, **options)


@pytest.mark.slow  # two processes
@POSIX
def test_a_closed_pipe_and_a_full_device_are_one_error():
    reader, writer = os.pipe()
    os.close(reader)
    done = expunge("methods", stdout=writer)
    os.close(writer)
    assert done.returncode == 2
    assert done.stderr.splitlines() == ["error: standard output cannot be written: Broken pipe; files that the "
                                        "command writes are complete."]  # fmt: skip
    if os.path.exists("/dev/full"):
        with open("/dev/full", "w") as full:
            done = expunge("methods", stdout=full)
        assert done.returncode == 2 and "No space left on device" in done.stderr
        assert len(done.stderr.splitlines()) == 1


# ---- runs


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    folder = tmp_path_factory.mktemp("original")
    assert main(["train", *DIGITS, "--epochs", "3", "--out", str(folder / "o.safetensors")]) == 0
    return folder / "o.safetensors"


def unlearn(original, out, *more, method="finetune"):
    """The words of a quick run."""
    return ["unlearn", method, *DIGITS, "--checkpoint", str(original), "--forget-class", "3", "--trials", "0",
            "--epochs", "1", "--out", str(out), *more]  # fmt: skip


class Closed(io.StringIO):
    """A stream whose reader is gone."""

    def write(self, text):
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")


def test_closed_outputs_do_not_end_a_run(original, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "stdout", Closed())
    monkeypatch.setattr(sys, "stderr", Closed())
    assert main(unlearn(original, tmp_path / "u.safetensors")) == NOT_POSSIBLE
    assert names(tmp_path) == OUTPUTS


def test_a_failed_run_replaces_no_earlier_result(original, tmp_path, capsys):
    out = tmp_path / "u.safetensors"
    assert main(unlearn(original, out)) == 0
    before = {f.name: f.read_bytes() for f in tmp_path.iterdir()}
    nothing = ["--lr", "0", "--weight-decay", "0"]
    assert main(unlearn(original, out, *nothing)) == NO_RESULT
    assert "is from an earlier run" in capsys.readouterr().err
    assert {f.name: f.read_bytes() for f in tmp_path.iterdir()} == before
    assert (
        main(["train", *DIGITS, "--epochs", "1", "--lr", "1e30", "--out", str(tmp_path / "o.pt")])
        == NO_RESULT
    )
    assert names(tmp_path) == OUTPUTS
    assert main(unlearn(original, out, *nothing, "--keep-failed")) == NO_RESULT
    kept = read_checkpoint(tmp_path / "u.safetensors.failed")
    assert kept.format == "safetensors" and kept.metadata["failed"].startswith("unchanged")
    assert Record.load(tmp_path / "u.safetensors.failed.json").ended == "unchanged"


@POSIX
def test_outputs_are_checked_before_the_run(original, tmp_path, capsys, monkeypatch):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(original)
    os.link(original, tmp_path / "hard.safetensors")
    (tmp_path / "file").write_text("")
    monkeypatch.setattr("expunge.cli.unlearn.draw_split", lambda *_: pytest.fail("data was read"))
    wanted = {
        "/dev/null": "is a device",
        "/dev/full": "is a device",
        "/proc/nothing/u.pt": "cannot be written",
        tmp_path / "pipe": "is a device, a pipe",
        tmp_path / "link": "is a link",
        tmp_path / "hard.safetensors": "is also an input",
        tmp_path / "file" / "u.pt": "Not a directory",
        tmp_path / ("n" * 250): "File name too long; give a shorter name",
        tmp_path / "new" / ("n" * 300) / "u.pt": "File name too long",
    }
    before = names(tmp_path)
    for out, text in wanted.items():
        assert main(unlearn(original, out)) == NOT_POSSIBLE
        assert text in capsys.readouterr().err, out
        if "is also" not in text:
            assert main(["train", *DIGITS, "--out", str(out)]) == NOT_POSSIBLE
            assert text in capsys.readouterr().err, out
    assert names(tmp_path) == before


def test_the_room_on_the_disk_is_checked_before_the_run(original, tmp_path, capsys, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=20_000))
    assert main(unlearn(original, tmp_path / "u.safetensors")) == NOT_POSSIBLE
    assert "0.0 MB free and u.safetensors needs about" in capsys.readouterr().err and names(tmp_path) == []
    assert main(["train", *DIGITS, "--out", str(tmp_path / "o.pt")]) == NOT_POSSIBLE


@pytest.fixture
def full_disk(tmp_path, monkeypatch):
    """A disk with room for the trials, but for no checkpoint. Nobody sees that before the run."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=48k", "tmpfs", str(folder)]
    if sys.platform != "linux" or os.geteuid() or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("a small file system can only be mounted by root on Linux")
    monkeypatch.setattr("expunge.cli.output_checks._free", lambda _: None)
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_disk_that_fills_during_the_run_is_one_error_and_spill_takes_the_outputs(
    original, full_disk, capsys
):
    out, spill = full_disk / "u.safetensors", full_disk.parent / "spill"
    assert main(unlearn(original, out)) == NOT_POSSIBLE
    err = capsys.readouterr().err
    assert "u.safetensors cannot be written: No space left on device; make room" in err
    assert "none of the outputs was written; add --spill DIR" in err and names(full_disk) == []
    more = ["--spill", str(spill), "--save-mask", str(full_disk / "m.mask"), "--density", "0.5"]
    assert main(unlearn(original, out, *more)) == NOT_POSSIBLE
    assert f"all outputs are in {spill} instead" in capsys.readouterr().err
    assert names(full_disk) == [] and names(spill) == ["m.mask", *OUTPUTS]
    receipt = ["verify", spill / "u.receipt.json", "--model", spill / "u.safetensors", "--original", original]
    assert main([*map(str, receipt), "--record", str(spill / "u.json"), "--mask", str(spill / "m.mask")]) == 0


def test_what_cannot_be_written_is_kept_in_the_state(original, tmp_path, capsys, monkeypatch):
    from expunge.cli import outputs

    def full(*_, **__):
        raise WriteError("the disk is full; make room.")

    out = tmp_path / "u.safetensors"
    with monkeypatch.context() as patched:
        patched.setattr(outputs, "write_checkpoint", full)
        assert main(unlearn(original, out)) == NOT_POSSIBLE
    assert (
        "resumes from its last written state when you give the same command again" in capsys.readouterr().err
    )
    assert names(tmp_path) == [".u.safetensors.state"]
    assert main(unlearn(original, out)) == 0 and names(tmp_path) == OUTPUTS
    assert "epoch 0/1" not in capsys.readouterr().err, "the run starts from its state"


KILLED = """
import os, sys, time
from pathlib import Path
from expunge.cli import main
moves, stop = [], int(sys.argv[1])
def slowly(move):
    def slow(one, other):
        if Path(other).name.startswith("u.") and not str(other).endswith("journal"):
            moves.append(other)
            if len(moves) > stop:
                Path(sys.argv[2]).touch()
                time.sleep(600)
        move(one, other)
    return slow
# an output that was not there appears by a link, which replaces nothing
os.replace, os.link = slowly(os.replace), slowly(os.link)
main(sys.argv[3:])
"""


@POSIX
@pytest.mark.slow
@pytest.mark.parametrize("stop", [0, 2, 4])
def test_a_killed_delivery_is_whole_after_the_next_command(original, tmp_path, stop):
    ready, out = tmp_path / "ready", tmp_path / "out"
    words = unlearn(original, out / "u.safetensors")
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(stop), ready, *words], stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 120
    while not ready.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert ready.exists()
    hidden = [name for name in names(out) if name.startswith(".") and not name.endswith(".state")]
    assert hidden and "u.safetensors" not in names(out)
    assert main(["clean", str(out), "--states"]) == 0
    assert names(out) == OUTPUTS
    checked = ["verify", out / "u.receipt.json", "--model", out / "u.safetensors", "--record", out / "u.json"]
    assert main([*map(str, checked)]) == 0
