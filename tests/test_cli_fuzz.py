"""A fuzzer over every command: whatever is typed, a command ends with a code of the table and a sentence, and changes no input."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import shutil
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from expunge.cli import main
from expunge.cli.app import COMMANDS, build_app
from expunge.cli.exit_codes import CHECK_FAILED, DONE, NO_RESULT, NOT_POSSIBLE

DIGITS = ["--data", "digits?limit=120", "--model", "mlp"]
QUICK = ["--epochs", "1", "--batch-size", "64"]
ASKS = ["--forget-class", "3"]
# {command: words of a call that works, or that is refused early where the work would take long}
CALLS: dict[str, list[list[str]]] = {
    "demo": [["demo", "--data", "npz:garbage", "--out", "new", "--seeds", "1"]],
    "methods": [["methods", "salun"], ["methods", "--verbose"]],
    "train": [["train", *DIGITS, *QUICK, "--out", "new.safetensors"]],
    "unlearn": [
        [
            "unlearn",
            "finetune",
            *DIGITS,
            *QUICK,
            "--trials",
            "0",
            "--checkpoint",
            "o.pt",
            *ASKS,
            "--out",
            "new.pt",
        ],
        [
            "unlearn",
            "ssd",
            *DIGITS,
            "--trials",
            "0",
            "--checkpoint",
            "o.pt",
            *ASKS,
            "--save-mask",
            "new.mask",
        ],
    ],
    "audit": [["audit", *DIGITS, "--checkpoint", "u.pt", "--original", "o.pt", *ASKS, "--out", "new.json"]],
    "audit-predictions": [
        ["audit-predictions", "folder", "--models", "4", "--labels", "x.npz", "--out", "new.json"]
    ],
    "report": [["report", "o.json", "u.json", "--out", "new.html"]],
    "hub-folder": [["hub-folder", "u.pt", *DIGITS, "--out", "new"]],
    "convert": [["convert", "o.pt", "o.pt"]],
    "bench": [["bench", "grid.toml", "--out", "new", "--results", "new", "--only", "nothing"]],
    "erase": [["erase", "salun", "folder", "--concept", "a", "--anchor", "b", "--out", "new"]],
    "demo-generation": [["demo-generation", "--data", "npz:garbage", "--out", "new"]],
    "train-generator": [["train-generator", "--data", "npz:garbage", "--out", "new.pt", *QUICK]],
    "unlearn-generator": [
        [
            "unlearn-generator",
            "salun",
            "--data",
            "npz:garbage",
            "--checkpoint",
            "o.pt",
            "--forget",
            "3",
            "--out",
            "n",
        ]
    ],
    "init": [["init", "new", "--checkpoint", "o.pt", *DIGITS, "--method", "finetune"]],
    "forget": [["forget", "--project", "folder", "--class", "3", "--dry-run"]],
    "export": [["export", "new", "--project", "folder"], ["export", "folder", "--project", "nothing"]],
    "status": [["status", "--project", "folder", "--today", "2026-01-31"]],
    "ledger": [
        ["ledger", "add", "l.db", "case 1", "--ids", "ids.txt", "--received", "2026-01-31"],
        [
            "ledger",
            "attach",
            "l.db",
            "1",
            "--record",
            "u.json",
            "--receipt",
            "u.receipt.json",
            "--ids",
            "ids.txt",
        ],
        ["ledger", "list", "l.db"],
        ["ledger", "show", "l.db", "1"],
        ["ledger", "limits", "l.db", "--max-gap", "3"],
        ["ledger", "overdue", "l.db", "--today", "2026-01-31"],
        ["ledger", "check", "l.db", "--head", "1:00"],
        ["ledger", "export", "l.db", "new.json"],
    ],
    "clean": [["clean", "folder", "--dry-run"]],
    "verify": [["verify", "u.receipt.json", "--model", "u.pt", "--original", "o.pt", "--record", "u.json"]],
    "sign": [["sign", "u.receipt.json", "--key", "key", "--out", "new.json"]],
    "keygen": [["keygen", "new"]],
    # never a shell that there is: its start-up file would be changed
    "completion": [["completion", "--shell", "new", "--out", "new"]],
}
# the word after these is what makes the call end early
FIXED = {"npz:garbage", "nothing", "new", *COMMANDS}
FIXED_FLAGS = (
    "--data",
    "--epochs",
    "--trials",
    "--only",
    "--level",
    "--dry-run",
    "--jobs",
    "--ray",
    "--minutes",
)
OUTPUTS = ("--out", "--report", "--save-mask", "--write-proof", "--make-page", "--results")
NUMBERS = ["0", "-1", "1", "3", "0.5", "nan", "inf", "-inf", "1e400", "9" * 30, "1_0", "٣", "0x10", "", " "]
WORDS = [
    "cpu",
    "cuda:9",
    "meta",
    "auto",
    "none",
    "a=b",
    "=",
    ",",
    "é",
    "\udcff",
    "\x1b[31m",
    "a" * 300,
    "--",
    "[red]",
]
DATES = ["2026-13-01", "2026-01-31", "0000-00-00"]


def make_files(folder: Path) -> list[str]:
    """Good, broken and hostile files. Returns their names."""
    os.chdir(folder)
    for words in (
        ["train", *DIGITS, *QUICK, "--out", "o.pt"],
        [
            "unlearn",
            "finetune",
            *DIGITS,
            *QUICK,
            "--trials",
            "0",
            *ASKS,
            "--checkpoint",
            "o.pt",
            "--out",
            "u.pt",
        ],
        ["keygen", "key"],
        ["ledger", "add", "l.db", "case 0"],
    ):
        assert main(words) in (DONE, CHECK_FAILED), words
    (folder / "folder" / "inner").mkdir(parents=True)
    Path("ids.txt").write_text("1\n2\n")
    Path("garbage").write_bytes(bytes(range(256)) * 8)
    Path("empty").write_bytes(b"")
    Path("deep.json").write_text("[" * 200_000)
    Path("deep2.json").write_text(
        '{"schema": 1, "kind": "unlearn", "method": ' + '{"a":' * 20_000 + "1" + "}" * 20_001
    )
    Path("huge.json").write_text('{"schema": ' + "9" * 5000 + ', "kind": "unlearn", "method": "salun"}')
    large = {
        "schema": 10**30,
        "kind": "unlearn",
        "method": "salun",
        "scores": {"UA": 10**400},
        "seed": 10**30,
    }
    Path("large.json").write_text(json.dumps({**large, "schema": 1}))
    record = json.loads(Path("u.json").read_text())
    odd: list[object] = [None, 1, "text", [], {}, [[]], {"a": None}, True, 1e308, -1, 10**30]
    for at, value in enumerate(odd):
        for key in (
            "details",
            "scores",
            "curves",
            "model",
            "split",
            "data",
            "settings",
            "created",
            "seconds",
        ):
            Path(f"odd-{at}-{key}.json").write_text(json.dumps({**record, key: value}))
    receipt = json.loads(Path("u.receipt.json").read_text())
    for at, value in enumerate(odd):
        Path(f"odd-{at}.receipt.json").write_text(json.dumps({**receipt, "statement": value}))
        inner = {**receipt["statement"], "seed": value, "settings": value, "mask": value}
        Path(f"inner-{at}.receipt.json").write_text(json.dumps({**receipt, "statement": inner}))
    Path("grid.toml").write_text('title = "t"\n[[grid]]\n')
    Path("odd.toml").write_text("title = 1\nmethods = 7\nseeds = [[]]\ndata = {a = 1}\n")
    Path("deep.toml").write_text("a = " + "[" * 5000)
    torch.save({"state_dict": 7}, "odd.pt")
    np.savez("odd.npz", x_train=np.zeros(3))
    Path("n\udcffame").write_bytes(b"x")
    os.mkfifo("pipe")
    Path("link").symlink_to("o.pt")
    Path("loop").symlink_to("loop")
    return sorted(path.name for path in folder.iterdir())


def content(folder: Path) -> dict[str, str]:
    """Hashes of all plain files, and the kinds of all others."""
    return {
        f.name: hashlib.sha256(f.read_bytes()).hexdigest()
        if f.is_file() and not f.is_symlink()
        else str(os.lstat(f).st_mode)
        for f in folder.iterdir()
        if not f.name.startswith(("new", ".")) and f.name not in ("l.db", "l.db-journal", "folder", "n")
    }


def flags_of(words: list[str]) -> list[str]:
    """All flags of the command of a call."""
    app = build_app(words)
    for word in words[: 2 if words[0] in ("ledger", "unlearn", "erase", "unlearn-generator") else 1]:
        app = app[word]
    return sorted(
        {n for a in app.assemble_argument_collection() for n in a.names if n.startswith("--")}
        - set(FIXED_FLAGS)
    )


@st.composite
def calls(draw, command: str, files: list[str]) -> list[str]:
    """A call of the command with one to three changes."""
    words = list(draw(st.sampled_from(CALLS[command])))
    flags = flags_of(words)
    values = st.one_of(st.sampled_from([*files, "/dev/null", "/dev/full", "missing", "a/b", ".", "/proc/x/y"]),
                       st.sampled_from(NUMBERS), st.sampled_from(WORDS), st.sampled_from(DATES))  # fmt: skip
    for _ in range(draw(st.integers(1, 3))):
        places = [k for k in range(1, len(words)) if words[k] not in FIXED and words[k - 1] not in FIXED_FLAGS
                  and words[k] not in FIXED_FLAGS]  # fmt: skip
        change = draw(st.sampled_from(["value", "value", "add", "add", "drop", "word"]))
        if change == "value" and places:
            words[draw(st.sampled_from(places))] = draw(values)
        elif change == "add" and flags:
            words += [draw(st.sampled_from(flags)), draw(values)]
        elif change == "drop" and places:
            del words[draw(st.sampled_from(places))]
        else:
            words.insert(draw(st.integers(1, len(words))), draw(values))
    return words


def outputs_of(words: list[str]) -> set[str]:
    """The words of a call that name outputs."""
    named = {words[k + 1] for k in range(len(words) - 1) if words[k] in OUTPUTS}
    return named | (set(words) if words[0] in ("convert", "keygen", "ledger", "sign", "init") else set())


@contextlib.contextmanager
def at_most(seconds: int):
    """End a call that hangs."""

    def hangs(*_):
        raise AssertionError(f"no end after {seconds} seconds")

    before = signal.signal(signal.SIGALRM, hangs)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def check(words: list[str], folder: Path, before: dict[str, str]) -> None:
    """Make one call, and compare its end with what every call promises."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), at_most(120):
        code = main(words)
    shown = f"{words}: {code}\n{err.getvalue()}"
    assert code in (DONE, CHECK_FAILED, NOT_POSSIBLE, NO_RESULT), shown
    assert "Traceback" not in err.getvalue() + out.getvalue(), shown
    assert code in (DONE, CHECK_FAILED) or "error:" in err.getvalue() or "Usage:" in out.getvalue(), shown
    after, written = content(folder), outputs_of(words)
    changed = [name for name in before if after.get(name) != before[name]]
    for name in set(changed) & written:
        # an existing plain file may be an output; later calls get the old one back
        shutil.copyfile(folder.parent / "pristine" / name, folder / name)
    assert set(changed) <= written, shown
    left = [name for name in os.listdir(folder) if name.endswith((".expunge-part", ".state"))]
    assert not left, f"{shown}\n{left}"


@pytest.fixture(scope="module")
def pool(tmp_path_factory):
    if os.name == "nt":
        pytest.skip("the fuzzer needs pipes and names that are not UTF-8")
    here, folder = os.getcwd(), tmp_path_factory.mktemp("fuzz") / "pool"
    folder.mkdir()
    names = make_files(folder)
    (folder.parent / "pristine").mkdir()
    for file in folder.iterdir():
        if file.is_file() and not file.is_symlink():
            shutil.copyfile(file, folder.parent / "pristine" / file.name)
    yield folder, names, content(folder)
    os.chdir(here)


def fuzz(command: str, pool, count: int) -> None:
    folder, names, before = pool

    @settings(max_examples=count, deadline=None, derandomize=True, database=None,
              suppress_health_check=list(HealthCheck))  # fmt: skip
    @given(words=calls(command, names))
    def run(words):
        check(words, folder, before)

    run()


def test_every_command_is_fuzzed():
    assert set(CALLS) == set(COMMANDS)
    actions = {words[1] for words in CALLS["ledger"]}
    app = build_app(["ledger"])["ledger"]
    assert actions == {name for name in app if not name.startswith("-")}


@pytest.mark.parametrize("command", COMMANDS)
def test_whatever_is_typed_ends_with_a_code_and_a_sentence(command, pool):
    fuzz(command, pool, 8)


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_whatever_is_typed_ends_with_a_code_and_a_sentence_many_times(command, pool):
    fuzz(command, pool, int(os.environ.get("EXPUNGE_FUZZ", "300")))


def test_the_fuzzer_would_see_a_traceback(pool, monkeypatch):
    folder, _, before = pool
    monkeypatch.setattr("expunge.cli.methods.methods", lambda: 1 / 0)
    with pytest.raises(AssertionError, match="ZeroDivisionError"):
        check(["methods"], folder, before)
    assert "expunge.cli.methods" in sys.modules
