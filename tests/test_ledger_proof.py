"""Test what a done request of the ledger needs to be proved, and which requests a later audit reopens."""

import shutil
import sqlite3
from datetime import date
from pathlib import Path

import pytest
import torch
from torch import nn

from expunge.cli import main
from expunge.errors import ExpungeError
from expunge.receipts.issue import issue, record_hash
from expunge.receipts.keys import make_key
from expunge.receipts.ledger import Ledger
from expunge.receipts.limits import visible
from expunge.receipts.receipt import Receipt
from expunge.records.hashing import model_hash
from expunge.records.record import Record

OLD = Path(__file__).parent / "fixtures" / "ledger_v1.db"


@pytest.fixture
def ledger(tmp_path):
    return Ledger(tmp_path / "requests.db", create=True)


def make_run(folder, name, ids, *, key=None, scores=None, verdict=("different",), earlier=None, seed=0):
    """Write a run as NAME.json, NAME.receipt.json, NAME.secret.json; return what `attach` needs."""
    torch.manual_seed(seed)
    before, after = nn.Linear(2, 2), nn.Linear(2, 2)
    details = {"verdict": {"words": list(verdict)}}
    if earlier is not None:
        details["earlier_requests"] = earlier
    record = Record(
        "unlearn",
        "salun",
        {"name": name},
        model={
            "hash_before": model_hash(before.state_dict()),
            "hash_after": model_hash(after.state_dict()),
        },
        scores={"UA": 80.0, "MIA": 70.0} if scores is None else scores,
        details=details,
        machine={},
    )
    path = folder / f"{name}.json"
    record.save(path)
    receipt, secret = issue(record, ids, key=key)
    receipt.save(folder / f"{name}.receipt.json")
    secret.save(folder / f"{name}.secret.json")
    files = {"receipt": folder / f"{name}.receipt.json", "secret": folder / f"{name}.secret.json"}
    return {"record": path, "audit": path, "ids": ids, **files}


def entry(files, came_back=True):
    """The entry of a later audit on the run: UA 80 -> 20, MIA 70 -> 30."""
    return {
        "receipt": Receipt.load(files["receipt"]).id,
        "record": "",
        "samples": 3,
        "UA": 20.0,
        "MIA": 30.0,
        "UA_change": -60.0,
        "MIA_change": -40.0,
        "came_back": came_back,
        "reason": "accuracy 80.0 %" if came_back else "",
    }


def test_a_request_with_run_proof_and_audit_is_done(ledger, tmp_path):
    ledger.add("a", ["1", "2"], received="2026-01-01")
    state = ledger.attach(1, **make_run(tmp_path, "one", ["1", "2"]))
    assert (state.state, state.missing) == ("done", []) and ledger.overdue(date(2030, 1, 1)) == []


@pytest.mark.parametrize(
    "left_out, missing",
    [
        (("audit",), "an audit"),
        (("ids", "secret"), "a proof that its 2 ids are in the forget set"),
        (("receipt", "ids", "secret"), "a receipt"),
    ],
)
def test_each_missing_piece_is_named_and_the_request_stays_overdue(ledger, tmp_path, left_out, missing):
    ledger.add("a", ["1", "2"], received="2026-01-01")
    files = make_run(tmp_path, "one", ["1", "2"])
    state = ledger.attach(1, status="done", **{k: v for k, v in files.items() if k not in left_out})
    assert state.state == "done, not proved" and missing in state.missing
    assert [r.number for r in ledger.overdue(date(2026, 1, 30))] == [1]
    assert ledger.overdue(date(2026, 1, 29)) == []


def test_a_request_without_ids_is_not_proved(ledger, tmp_path):
    ledger.add("a")
    files = make_run(tmp_path, "one", ["1"])
    state = ledger.attach(1, **{k: v for k, v in files.items() if k not in ("ids", "secret")})
    assert state.missing == [
        "ids, a class or a concept in the request, so that the run can be proved to cover it"
    ]


@pytest.mark.parametrize(
    "scores, verdict, piece",
    [
        ({"UA": 1.0, "gap": {"avg": 5.0}}, ["different"], None),
        ({"UA": 1.0, "gap": {"avg": 5.1}}, ["different"], "average gap to Retrain 5.1, at most 5 points"),
        ({"UA": 1.0}, ["unknown"], None),
        ({"UA": 1.0}, ["utility lost", "under-forgotten"], "verdict under-forgotten"),
        ({"UA": 1.0}, ["over-forgotten"], "verdict over-forgotten"),
        ({"UA": 1.0}, ["no conclusion"], "verdict no conclusion"),
        ({"RA": 1.0}, ["different"], "an audit with scores"),
        ({"UA": 1.0}, [], "an audit with a verdict"),
    ],
)
def test_the_limits_of_the_audit(ledger, tmp_path, scores, verdict, piece):
    ledger.add("a", ["1"])
    state = ledger.attach(1, **make_run(tmp_path, "one", ["1"], scores=scores, verdict=verdict))
    assert state.missing == [] if piece is None else (len(state.missing) == 1 and piece in state.missing[0])


def test_limits_are_rows_of_the_chain_and_hold_for_old_requests(ledger, tmp_path):
    ledger.add("a", ["1"])
    ledger.attach(1, **make_run(tmp_path, "one", ["1"], scores={"UA": 1.0, "gap": {"avg": 3.0}}))
    assert ledger.request(1).state == "done"
    ledger.set_limits(max_gap=2.5)
    assert ledger.request(1).state == "done, not proved" and ledger.events()[-1].kind == "limits"
    db = sqlite3.connect(ledger.path)
    db.execute("DROP TRIGGER no_UPDATE")
    db.execute("UPDATE events SET body = replace(body, '2.5', '9.5') WHERE kind = 'limits'")
    db.commit()
    db.close()
    assert ledger.request(1).state == "done" and not all(c.ok for c in ledger.check())
    for wrong in ({"max_gap": -1.0}, {"max_gap": float("nan")}, {"refused_words": [" "]}, {"keys": ["x"]}):
        head = ledger.head()
        with pytest.raises(ExpungeError):
            ledger.set_limits(**wrong)
        assert ledger.head() == head


def test_a_ledger_with_a_key_needs_a_signature_by_it(ledger, tmp_path):
    for name in ("mine", "theirs"):
        make_key(tmp_path / name)
    ledger.set_limits(keys=[tmp_path / "mine.pub"])
    for number, (key, good) in enumerate(((None, False), ("theirs", False), ("mine", True)), 1):
        ledger.add("a", ["1"])
        files = make_run(tmp_path, f"r{number}", ["1"], key=key and tmp_path / key, seed=number)
        state = ledger.attach(number, **files)
        assert state.missing == ([] if good else ["a signature by a key of the ledger"])
    ledger.set_limits(keys=[])
    assert ledger.request(1).state == "done"


@pytest.mark.parametrize("audit", ["none", "refused", "good"])
@pytest.mark.parametrize("signer", [None, "theirs", "mine"])
@pytest.mark.parametrize("proof", [False, True])
def test_done_needs_proof_signature_and_audit_together(ledger, tmp_path, capsys, proof, signer, audit):
    """A receipt that is home-made, of another person or without an audit leaves the request overdue."""
    for name in ("mine", "theirs"):
        make_key(tmp_path / name)
    ledger.set_limits(keys=[tmp_path / "mine.pub"])
    ledger.add("a", ["1", "2"], received="2020-01-01")
    verdict = ["under-forgotten"] if audit == "refused" else ["different"]
    files = make_run(tmp_path, "r", ["1", "2"], key=signer and tmp_path / signer, verdict=verdict)
    left_out = (() if proof else ("ids", "secret")) + (("audit",) if audit == "none" else ())
    state = ledger.attach(1, **{k: v for k, v in files.items() if k not in left_out})
    good = proof and signer == "mine" and audit == "good"
    assert len(state.missing) == (not proof) + (signer != "mine") + (audit != "good")
    assert state.state == ("done" if good else "done, not proved")
    assert main(["ledger", "overdue", str(ledger.path)]) == (0 if good else 1)
    shown = capsys.readouterr().out
    # a narrow terminal breaks the words of a cell over several lines
    assert good or "proved" in shown


def test_another_persons_receipt_closes_nothing(ledger, tmp_path):
    ledger.add("a", ["1", "2"])
    ledger.add("b", ["7"])
    ledger.add("c")
    one = make_run(tmp_path, "one", ["1", "2"])
    ledger.attach(1, **one)
    head = ledger.head()
    with pytest.raises(ExpungeError, match="'7' is not among"):
        ledger.attach(2, **{**one, "ids": ["7"]})
    for number in (2, 3):
        with pytest.raises(ExpungeError, match="already answers request 1"):
            ledger.attach(number, receipt=one["receipt"])
    assert ledger.head() == head and ledger.request(2).status == "open"
    # two persons of one run: each proves the own ids
    ledger.add("d", ["2"])
    assert ledger.attach(4, **{**one, "ids": ["2"]}).state == "done"


@pytest.mark.parametrize("by", ["receipt", "record"])
def test_a_request_that_came_back_is_reopened(ledger, tmp_path, by):
    one = make_run(tmp_path, "one", ["1"])
    ledger.add("a", ["1"], received="2026-01-01")
    ledger.add("b", ["2"])
    ledger.attach(1, **one)
    named = (
        entry(one) if by == "receipt" else {**entry(one), "receipt": "", "record": record_hash(one["record"])}
    )
    two = make_run(tmp_path, "two", ["2"], earlier=[named], seed=1)
    state = ledger.attach(2, **two)
    first = ledger.request(1)
    assert state.reopened == (1,) and first.status == "open" and not first.proved
    assert "UA 20.0 (-60.0), MIA 30.0 (-40.0)" in first.note and "accuracy 80.0 %" in first.note
    assert state.missing == ["a new run for request 1, which its run brought back"]
    assert ledger.events()[-1].kind == "attach" and ledger.events()[-1].request == 1
    assert [r.number for r in ledger.overdue(date(2026, 1, 30))] == [1]
    with pytest.raises(ExpungeError, match="its samples came back"):
        ledger.attach(1, **one)
    # a new run closes both, and the same audit does not reopen it again
    ledger.attach(1, **make_run(tmp_path, "three", ["1"], seed=2))
    assert ledger.attach(2, audit=two["audit"]).reopened == ()
    assert [r.state for r in ledger.requests()] == ["done", "done"] and all(c.ok for c in ledger.check())


def test_an_audit_that_finds_nothing_reopens_nothing_but_shows_the_drift(ledger, tmp_path):
    one = make_run(tmp_path, "one", ["1"])
    ledger.add("a", ["1"])
    ledger.add("b", ["2"])
    ledger.attach(1, **one)
    two = make_run(tmp_path, "two", ["2"], earlier=[entry(one, came_back=False)], seed=1)
    assert ledger.attach(2, **two).reopened == ()
    first = ledger.request(1)
    assert first.state == "done" and str(first.drift) == "UA 20.0 (-60.0), MIA 30.0 (-40.0)"
    assert ledger.request(2).drift is None


def test_all_rows_of_an_attachment_or_none(ledger, tmp_path, monkeypatch):
    one = make_run(tmp_path, "one", ["1"])
    ledger.add("a", ["1"])
    ledger.add("b", ["2"])
    ledger.attach(1, **one)
    two = make_run(tmp_path, "two", ["2"], earlier=[entry(one)], seed=1)
    from expunge.receipts import ledger as module

    head, write = ledger.head(), module.insert_row

    def fail(db, kind, request, body):
        if "reopened" in body:
            raise OSError("the disk is full")
        write(db, kind, request, body)

    monkeypatch.setattr(module, "insert_row", fail)
    with pytest.raises(OSError):
        ledger.attach(2, **two)
    assert ledger.head() == head and [r.status for r in ledger.requests()] == ["done", "open"]


def test_control_characters_are_refused_and_never_printed(ledger, tmp_path, capsys):
    assert visible("a\x1b[31m\u202eb é") == "a\\x1b[31m\\u202eb é"
    with pytest.raises(ExpungeError) as caught:
        ledger.add("x\x1b[2J", note="y\x07")
    assert len(caught.value.problems) == 2
    ledger.add("x")
    with pytest.raises(ExpungeError, match="control character"):
        ledger.attach(1, status="refused", note="\x9b31m")
    old = str(shutil.copy(OLD, tmp_path / "old.db"))
    assert main(["ledger", "list", old]) == 0 and main(["ledger", "show", old, "2"]) == 0
    shown = capsys.readouterr().out
    assert "\x1b[31m" not in shown and "note: bell \\x1b[31m" in shown


def test_an_old_ledger_is_read_checked_and_continued(tmp_path):
    old = Ledger(shutil.copy(OLD, tmp_path / "old.db"))
    assert all(c.ok for c in old.check())
    assert [r.state for r in old.requests()] == ["done, not proved", "done, not proved", "refused"]
    assert old.request(1).proved and old.request(1).missing == ["an audit"]
    old.add("next")
    assert all(c.ok for c in old.check())


def test_the_commands_reopen_a_request_and_exit_with_1(ledger, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    one = make_run(tmp_path, "one", ["1"])
    (tmp_path / "ids").write_text("1\n")
    book = str(ledger.path)
    assert main(["ledger", "add", book, "a", "--ids", "ids"]) == 0 and main(["ledger", "add", book, "b"]) == 0
    words = ["--record", "one.json", "--audit", "one.json", "--receipt", "one.receipt.json"]
    assert main(["ledger", "attach", book, "1", *words, "--ids", "ids", "--secret", "one.secret.json"]) == 0
    make_run(tmp_path, "two", ["2"], earlier=[entry(one)], seed=1)
    capsys.readouterr()
    assert main(["ledger", "attach", book, "2", "--record", "two.json"]) == 1
    assert "request 1 is reopened: came back in the audit of request 2" in capsys.readouterr().out
    ghost = {**entry(one), "receipt": "ul-GHOST"}
    make_run(tmp_path, "three", ["3"], earlier=[ghost], seed=2)
    assert main(["ledger", "attach", book, "2", "--record", "three.json"]) == 1
    assert "no request of the ledger has its receipt" in capsys.readouterr().err
    assert main(["ledger", "limits", book, "--max-gap", "2", "--refused-verdict", "different"]) == 0
    assert "gap to Retrain: 2 points" in capsys.readouterr().out
    assert main(["ledger", "show", book, "1"]) == 0
    assert "state: open" in capsys.readouterr().out
