"""One run may answer several requests of a ledger. A later audit means each of them by its split, not by the shared receipt."""

from dataclasses import replace

import pytest

from expunge.receipts.attachments import part_of
from expunge.receipts.commitment import Secret
from expunge.receipts.ledger import Ledger
from expunge.records.record import Record
from test_ledger_proof import entry, make_run


@pytest.fixture
def ledger(tmp_path):
    """Alice, Bob and Carol, of whom one run answers the first two."""
    ledger = Ledger(tmp_path / "requests.db", create=True)
    for name, ids in (("alice", ["1"]), ("bob", ["2"]), ("carol", ["3"])):
        ledger.add(name, ids)
    return ledger


@pytest.fixture
def run(ledger, tmp_path):
    return make_run(tmp_path, "run", ["1", "2"])


def attach(ledger, run, number, split, ids):
    """Attach the run to a request, with the audit of its own samples."""
    owner = part_of(ledger.request(number), split, ids, Secret.load(run["secret"]))
    record = Record.load(run["record"])
    part = replace(
        record, details={**record.details, "part": {"request": split, "samples": len(ids), **owner}}
    )
    path = part.save(run["record"].with_suffix(f".{number}.json"))
    return ledger.attach(number, **{**run, "audit": path, "ids": ids})


def later(tmp_path, run, *, splits=("aa", "bb"), name="later", **options):
    """A run for Carol whose audit says that the samples of `bb` came back, and those of `aa` did not."""
    scores = {"aa": (71.0, False), "bb": (12.0, True)}
    found = [
        {**entry(run, came_back=scores[s][1]), "UA": scores[s][0], **({"request": s} if options else {})}
        for s in splits
    ]
    return make_run(tmp_path, name, ["3"], earlier=found, seed=1)


def states(ledger):
    return [(r.status, None if r.drift is None else r.drift.UA) for r in ledger.requests()]


def test_the_right_one_of_two_requests_of_a_run_is_reopened(ledger, run, tmp_path):
    attach(ledger, run, 1, "aa", ["1"])
    attach(ledger, run, 2, "bb", ["2"])
    state = ledger.attach(3, **later(tmp_path, run, known=True))
    assert state.reopened == (2,) and state.unknown_returns == () and state.brought_back == (2,)
    assert states(ledger) == [("done", 71.0), ("open", 12.0), ("done", None)]
    assert all(c.ok for c in ledger.check(full=True))


def test_a_request_that_is_attached_after_the_audit_is_matched_by_its_split(ledger, run, tmp_path):
    ledger.attach(3, **later(tmp_path, run, known=True))
    assert attach(ledger, run, 1, "aa", ["1"]).reopened == ()
    assert attach(ledger, run, 2, "bb", ["2"]).reopened == (2,)
    assert states(ledger) == [("done", 71.0), ("open", 12.0), ("done", None)]
    assert all(c.ok for c in ledger.check(full=True))


@pytest.mark.parametrize("known", [{}, {"bb": [2], "aa": [1]}])
def test_nothing_is_guessed_where_audits_name_no_split(ledger, run, tmp_path, known):
    """The caller may know which request is which; else a note says that the run answered both."""
    for number in (1, 2):
        ledger.attach(number, **{**run, "ids": [str(number)]})
    state = ledger.attach(3, **later(tmp_path, run, known=True), known=known)
    if known:
        assert states(ledger) == [("done", 71.0), ("open", 12.0), ("done", None)]
        return
    assert states(ledger) == [("done", None), ("done", None), ("done", None)]
    (text,) = state.unknown_returns
    assert "its run answered several requests of the ledger (1, 2), so none is reopened" in text


def test_the_drift_of_an_earlier_answer_is_not_that_of_a_new_run(ledger, run, tmp_path):
    attach(ledger, run, 1, "aa", ["1"])
    attach(ledger, run, 2, "bb", ["2"])
    ledger.attach(3, **later(tmp_path, run, known=True))
    again = ledger.attach(2, **make_run(tmp_path, "again", ["2"], seed=2))
    assert again.status == "done" and again.drift is None and ledger.request(1).drift.UA == 71.0
    # an audit that speaks of the run of the first one alone says nothing of the second
    ledger.attach(3, audit=later(tmp_path, run, splits=("aa",), name="last", known=True)["audit"])
    assert states(ledger) == [("done", 71.0), ("done", None), ("done", None)]
    assert all(c.ok for c in ledger.check(full=True))
