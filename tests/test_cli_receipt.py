"""The commands verify, sign, keygen and ledger, as a user types them: output, exit codes, files."""

import json
import os
import re
import shlex
import signal
import stat
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from dying import dies_at
from expunge.cli import main
from expunge.cli.receipt_flags import ReceiptFlags
from expunge.errors import ExpungeError
from expunge.masks.mask_file import Mask
from expunge.receipts.keys import load_private, load_public, make_key, public_bytes
from expunge.receipts.receipt import Receipt, receipt_paths
from expunge.records.hashing import model_hash
from expunge.records.record import Record
from expunge.records.together import finish_or_remove

IDS = ["17", "4", "23"]


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A finished run in the folder that is worked in: checkpoints, record, receipt, secret, a key pair."""
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    save_file(nn.Linear(3, 2).state_dict(), "before.safetensors")
    save_file(nn.Linear(3, 2).state_dict(), "after.safetensors")
    make_key("key")
    (tmp_path / "ids.txt").write_text("17\n4\n\n 23 \n")
    hashes = {f"hash_{name}": model_hash(f"{name}.safetensors") for name in ("before", "after")}
    record = Record(
        "unlearn",
        "salun",
        {"lr": 0.1},
        model=hashes,
        split={"hash": "5" * 64},
        scores={"UA": 99.5},
        machine={},
    )
    record.save("after.json")
    files = [tmp_path / name for name in ("after.json", "before.safetensors", "after.safetensors")]
    ReceiptFlags(sign_key=tmp_path / "key").write(*files, IDS)
    return tmp_path


def expunge(*words):
    """The exit code of the command."""
    return main([str(w) for w in words])


def secret_of(run):
    return receipt_paths(run / "after.safetensors", Receipt.load(run / "after.receipt.json").id)[1]


def test_a_locked_key_signs_with_its_passphrase_alone(run, capsys):
    (run / "word").write_text("open sesame\n")
    assert expunge("keygen", "locked", "--passphrase-file", "word") == 0
    assert "locked with the passphrase" in capsys.readouterr().out
    before = (run / "after.receipt.json").read_bytes()
    assert expunge("sign", "after.receipt.json", "--key", "locked") == 2
    assert "locked: give its passphrase" in capsys.readouterr().err
    assert (run / "after.receipt.json").read_bytes() == before
    locked = ("sign", "after.receipt.json", "--key", "locked", "--passphrase-file", "word")
    # the receipt has a good signature by another key
    assert expunge(*locked) == 2 and (run / "after.receipt.json").read_bytes() == before
    assert expunge(*locked, "--out", "locked.receipt.json") == 0
    assert expunge("verify", "locked.receipt.json", "--key", "locked.pub") == 0
    ReceiptFlags(sign_key=run / "locked", passphrase_file=run / "word").check(run / "before.safetensors")
    for flags in ({"passphrase_file": run / "word"}, {"sign_key": run / "locked"}):
        with pytest.raises(ExpungeError, match="passphrase"):
            ReceiptFlags(**flags).check(run / "before.safetensors")


def test_a_run_leaves_a_receipt_and_a_private_secret(run, capsys):
    assert stat.S_IMODE(secret_of(run).stat().st_mode) == 0o600
    assert (
        expunge(
            "verify",
            "after.receipt.json",
            "--model",
            "after.safetensors",
            "--original",
            "before.safetensors",
            "--record",
            "after.json",
            "--key",
            "key.pub",
            "--prove",
            "4",
        )
        == 0
    )
    shown = capsys.readouterr().out
    assert "all 16 checks hold" in shown and "FAILED" not in shown
    assert "does not show that the data is forgotten" in shown


@pytest.mark.parametrize(
    "flags, failed",
    [
        (["--model", "before.safetensors"], "model"),
        (["--record", "other.json"], "record"),
        (["--key", "0" * 64], "signature"),
        (["--prove", "5"], "proof"),
        (["--parent", "after.receipt.json"], "parent"),
    ],
)
def test_what_does_not_belong_to_it_ends_with_1(run, capsys, flags, failed):
    Record("unlearn", "other").save("other.json")
    assert expunge("verify", "after.receipt.json", *flags) == 1
    shown = capsys.readouterr().out
    assert [line for line in shown.splitlines() if line.startswith(f"FAILED {failed}:")] and "1 of " in shown


def test_files_that_are_not_there_end_with_2_and_are_told_together(run, capsys):
    flags = ["--model", "missing.pt", "--parent", "gone.json", "--proof", "lost.json"]
    assert expunge("verify", "after.receipt.json", *flags) == 2
    told = capsys.readouterr().err
    assert all(f"{name} is no file" in told for name in ("missing.pt", "gone.json", "lost.json"))


def test_a_mask_that_held_is_shown_and_one_that_did_not_fails(run, capsys):
    before = {"weight": torch.zeros(2, 3), "bias": torch.zeros(2)}
    mask = Mask({"weight": torch.tensor([[True, False, False]] * 2), "bias": torch.ones(2, dtype=torch.bool)})
    mask.save("mask.safetensors")
    (~mask).save("other.safetensors")
    save_file(before, "a.safetensors")
    save_file({**before, "weight": torch.tensor([[1.0, 0, 0], [0, 0, 0]])}, "b.safetensors")
    ReceiptFlags().write(Path("after.json"), Path("a.safetensors"), Path("b.safetensors"), IDS, mask)
    command = [
        "verify",
        "b.receipt.json",
        "--model",
        "b.safetensors",
        "--original",
        "a.safetensors",
        "--mask",
    ]
    assert expunge(*command, "mask.safetensors") == 0
    assert "no parameter outside the mask has changed" in capsys.readouterr().out
    assert expunge(*command, "other.safetensors") == 1
    told = capsys.readouterr().out
    assert "FAILED mask" in told and "FAILED kept" in told
    assert expunge(*command, "a.safetensors") == 2
    assert "is not a mask" in capsys.readouterr().err


def test_a_changed_receipt_ends_with_1(run, capsys):
    path = run / "after.receipt.json"
    path.write_bytes(path.read_bytes().replace(b'"salun"', b'"scrub"'))
    assert expunge("verify", path) == 1
    assert "FAILED digest" in capsys.readouterr().out
    path.write_bytes(b"{")
    assert expunge("verify", path) == 1 and expunge("verify", path, "--prove", "4") == 1


def test_a_proof_travels_without_the_secret(run, capsys):
    assert expunge("verify", "after.receipt.json", "--prove", "17", "--write-proof", "proof.json") == 0
    secret_of(run).rename(run / "elsewhere.json")
    assert expunge("verify", "after.receipt.json", "--proof", "proof.json") == 0
    assert "'17' is among the 3" in capsys.readouterr().out
    assert expunge("verify", "after.receipt.json", "--prove", "17") == 2
    assert "--secret" in capsys.readouterr().err
    assert expunge("verify", "after.receipt.json", "--prove", "17", "--secret", "elsewhere.json") == 0
    for flags in (["--prove", "4", "--proof", "proof.json"], ["--write-proof", "p.json"]):
        assert expunge("verify", "after.receipt.json", *flags) == 2
    assert (
        expunge(
            "verify",
            "after.receipt.json",
            "--prove",
            "99",
            "--secret",
            "elsewhere.json",
            "--write-proof",
            "no.json",
        )
        == 1
    )
    assert not (run / "no.json").exists()


def test_keys_and_signing_later(run, capsys):
    assert expunge("keygen", "second") == 0 and expunge("keygen", "second") == 2
    assert "not replaced" in capsys.readouterr().err
    name = Receipt.load("after.receipt.json").id
    assert expunge("sign", "after.receipt.json", "--key", "second", "--out", "signed.json") == 0
    assert Receipt.load("signed.json").id == name
    assert expunge("verify", "signed.json", "--key", "second.pub") == 0
    assert expunge("verify", "after.receipt.json", "--key", "second.pub") == 1
    assert expunge("sign", "after.receipt.json", "--key", "key.pub") == 2
    (run / "signed.json").write_text("{}")
    assert expunge("sign", "signed.json", "--key", "second") == 2


def test_a_second_run_to_the_same_checkpoint_keeps_the_first_secret(run):
    first, content = secret_of(run), secret_of(run).read_bytes()
    files = [run / name for name in ("after.json", "before.safetensors", "after.safetensors")]
    ReceiptFlags().write(*files, ["1"])
    assert secret_of(run) != first and first.read_bytes() == content
    assert Receipt.load("after.receipt.json").signature is None


def test_flags_that_would_fail_after_the_run_fail_before_it(run):
    ReceiptFlags(receipt=False).write(run / "none", run / "none", run / "none", IDS)
    ReceiptFlags(sign_key=run / "key", parent=run / "after.receipt.json").check(run / "after.safetensors")
    for flags in (
        ReceiptFlags(sign_key=run / "none"),
        ReceiptFlags(parent=run / "after.json"),
        ReceiptFlags(receipt=False, sign_key=run / "key"),
    ):
        with pytest.raises(ExpungeError):
            flags.check(run / "after.safetensors")


def test_brackets_in_a_subject_are_no_markup(run, capsys):
    for subject in ("case [/42]", "case [red] alert"):
        assert expunge("ledger", "add", "book.db", subject) == 0
    capsys.readouterr()
    assert expunge("ledger", "list", "book.db") == 0
    shown = capsys.readouterr().out
    assert "case [/42]" in shown and "case [red] alert" in shown


def test_a_parent_that_made_another_model_is_refused_before_the_run(run):
    with pytest.raises(ExpungeError, match="ended with another model than"):
        ReceiptFlags(parent=run / "after.receipt.json").check(run / "before.safetensors")


def test_a_run_that_changed_nothing_leaves_no_receipt(run, capsys):
    same = {"hash_before": "a" * 64, "hash_after": "a" * 64}
    Record("unlearn", "finetune", model=same, ended="diverged", machine={}).save("same.json")
    ReceiptFlags().write(run / "same.json", run / "before.safetensors", run / "same.safetensors", IDS)
    assert "no receipt was written" in capsys.readouterr().err and not (run / "same.receipt.json").exists()


def test_signing_replaces_no_key_and_names_what_is_missing(run, capsys):
    before = (run / "key").read_bytes()
    assert expunge("sign", "after.receipt.json", "--key", "key", "--out", "key") == 2
    assert "is also an input" in capsys.readouterr().err and (run / "key").read_bytes() == before
    assert expunge("sign", "missing.json", "--key", "none") == 2
    told = capsys.readouterr().err
    assert "missing.json is no file" in told and "none is no file" in told


def test_a_day_beyond_the_month_of_the_gdpr_is_said(run, capsys):
    for received, days, month in (("2026-01-31", "29", "2026-02-28"), ("2025-12-01", "32", "2026-01-01")):
        for given, said in (("28", False), (days, True)):
            book = run / f"{received}-{given}.db"
            assert expunge("ledger", "add", book, "case", "--received", received, "--days", given) == 0
            assert (f"ends on {month}" in capsys.readouterr().err) == said


def test_a_request_from_entry_to_export(run, capsys):
    book = run / "requests.db"
    assert expunge("ledger", "list", book) == 2 and not book.exists()
    assert expunge("ledger", "add", book, "case 12", "--ids", "ids.txt", "--received", "2026-01-01") == 0
    assert "request 1, due 2026-01-29" in capsys.readouterr().out
    assert expunge("ledger", "overdue", book, "--today", "2026-01-29") == 0
    assert expunge("ledger", "overdue", book, "--today", "2026-01-30") == 1
    assert "case 12" in capsys.readouterr().out
    # the record of the run has scores, but only an audit gives a verdict
    audit = json.loads((run / "after.json").read_text())
    audit["details"]["verdict"] = {"words": ["unknown"]}
    (run / "audit.json").write_text(json.dumps(audit))
    assert expunge("ledger", "attach", book, "1", "--record", "after.json", "--audit", "audit.json") == 0
    assert "is running" in capsys.readouterr().out
    assert (
        expunge(
            "ledger",
            "attach",
            book,
            "1",
            "--receipt",
            "after.receipt.json",
            "--ids",
            "ids.txt",
            "--key",
            "key.pub",
        )
        == 0
    )
    assert "request 1 is done; all 3 ids shown" in capsys.readouterr().out
    assert expunge("ledger", "overdue", book, "--today", "2030-01-01") == 0
    assert expunge("ledger", "list", book) == 0 and expunge("ledger", "list", book, "--status", "open") == 0
    shown = capsys.readouterr().out
    assert shown.count("case 12") == 1 and "3, proved" in shown
    assert (
        expunge("ledger", "export", book, "book.json") == 0 and expunge("ledger", "check", "book.json") == 0
    )
    capsys.readouterr()
    assert expunge("ledger", "check", book) == 0
    head = next(line for line in capsys.readouterr().out.splitlines() if "head" in line).split()[-1]
    assert expunge("ledger", "add", book, "case 13") == 0
    assert expunge("ledger", "check", book, "--head", head) == 0
    assert expunge("ledger", "check", book, "--head", "3:" + "0" * 64) == 1
    assert len(json.loads((run / "book.json").read_text())["events"]) == 4


PAGE = (Path(__file__).parent.parent / "docs" / "receipts.md").read_text(encoding="utf-8")


def test_the_python_of_the_page_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for block in re.findall(r"^```python\n(.*?)^```", PAGE, re.S | re.M):
        exec(compile(block, "receipts.md", "exec"), {})
    shown = capsys.readouterr().out
    assert "True proof" in shown and "False" not in shown


@pytest.mark.slow
def test_the_commands_of_the_page_run_as_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ids.txt").write_text("17\n230\n401\n")
    blocks = re.findall(r"^```sh\n(.*?)^```", PAGE, re.S | re.M)
    commands = [shlex.split(line)[1:] for line in "".join(blocks).splitlines()]
    assert len(commands) == 14
    for command in commands:
        assert expunge(*command) == 0, command


@pytest.mark.parametrize(
    "words",
    [
        ["add", "book", " "],
        ["add", "book", "x", "--ids", "none.txt"],
        ["add", "book", "x", "--due", "soon"],
        ["attach", "book", "1"],
        ["attach", "book", "9", "--status", "done"],
        ["attach", "book", "1", "--receipt", "after.json"],
        ["overdue", "book", "--today", "now"],
        ["check", "none.db"],
        ["check", "book", "--head", "x"],
        ["export", "book", "after.json"],
        ["list", "ids.txt"],
    ],
)
def test_what_cannot_be_done_ends_with_2_and_a_sentence(run, capsys, words):
    expunge("ledger", "add", "book", "case")
    capsys.readouterr()
    assert expunge("ledger", *words) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ") and "Traceback" not in said


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the killed process is a fork")
@pytest.mark.parametrize(("call", "at", "left"), [("fsync", 1, []), ("fsync", 3, []), ("link", 1, ["key", "key.pub"]),
                                                 ("link", 2, ["key", "key.pub"]), ("unlink", 1, ["key", "key.pub"])])  # fmt: skip
def test_a_killed_keygen_leaves_both_keys_or_none(tmp_path, call, at, left):
    """A private key without its public one would refuse the same command, given again."""
    assert dies_at(call, at, lambda: make_key(tmp_path / "key")) == -signal.SIGKILL
    finish_or_remove(tmp_path)
    assert sorted(f.name for f in tmp_path.iterdir()) == left
    if left:
        with pytest.raises(ExpungeError, match="exists and is not replaced"):
            make_key(tmp_path / "key")
        assert load_public(tmp_path / "key.pub") == public_bytes(load_private(tmp_path / "key"))
    else:
        make_key(tmp_path / "key")


def test_keygen_replaces_neither_key(tmp_path, monkeypatch):
    """Another process makes a key meanwhile: its key stays."""
    real = os.fsync

    def slow(handle):
        (tmp_path / "key").write_text("of another process")
        real(handle)

    monkeypatch.setattr(os, "fsync", slow)
    with pytest.raises(ExpungeError):
        make_key(tmp_path / "key")
    assert (tmp_path / "key").read_text() == "of another process" and not (tmp_path / "key.pub").exists()
