"""The ledger compares the forget set of the audit with that of the run, and drops the receipt of an older run."""

import pytest

from expunge import ExpungeError, Record
from expunge.receipts.ledger import Ledger


def record(path, kind="unlearn", model="a" * 64, split="s1", **details):
    values = {"kind": kind, "method": "salun", "scores": {"UA": 5.0, "MIA": 10.0}, "split": {"hash": split}}
    details = {"verdict": {"words": ["different"]}, **details}
    return Record(**values, model={"hash_after": model}, details=details).save(path)


def test_an_audit_of_another_forget_set_is_refused(tmp_path):
    ledger = Ledger(tmp_path / "l.db", create=True)
    number = ledger.add("x", ["1", "2"])
    run, other = record(tmp_path / "run.json"), record(tmp_path / "other.json", split="s2")
    with pytest.raises(ExpungeError, match="of another forget set"):
        ledger.attach(number, record=run, audit=other)
    assert not ledger.request(number).run, "nothing is entered"
    ledger.attach(number, record=run)
    with pytest.raises(ExpungeError, match="of another forget set"):
        ledger.attach(number, audit=other)
    assert ledger.attach(number, audit=record(tmp_path / "same.json")).audit
    # the plain hash of the split is in no row: anyone with the data could test guesses of the forget set
    assert b"s1" not in (tmp_path / "l.db").read_bytes()


def test_a_new_run_drops_the_receipt_of_the_old_one(tmp_path):
    from expunge.receipts.issue import issue

    ledger = Ledger(tmp_path / "l.db", create=True)
    number = ledger.add("x", ["1"])
    run = Record.load(record(tmp_path / "run.json"))
    run.model["hash_before"] = "0" * 64
    run.save(tmp_path / "run.json")
    receipt, secret = issue(run, ["1"])
    receipt.save(tmp_path / "r.json")
    secret.save(tmp_path / "s.json")
    files = {"record": tmp_path / "run.json", "audit": tmp_path / "run.json", "receipt": tmp_path / "r.json"}
    done = ledger.attach(number, **files, secret=tmp_path / "s.json", ids=["1"])
    assert done.state == "done" and done.proved
    new = record(tmp_path / "new.json", model="b" * 64)
    again = ledger.attach(number, record=new, audit=new)
    assert again.state == "done, not proved" and "a receipt" in again.missing and not again.proved


def test_an_unchanged_model_is_no_answer(tmp_path):
    ledger = Ledger(tmp_path / "l.db", create=True)
    number = ledger.add("x")
    verdict = {"words": ["unchanged"]}
    ledger.attach(number, record=record(tmp_path / "run.json"), status="done")
    request = ledger.attach(number, audit=record(tmp_path / "audit.json", verdict=verdict))
    assert any("unchanged" in text for text in request.missing)
